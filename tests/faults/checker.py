"""Holds a run against what must be true of it, whatever happened: from its log, with no code of the engine's."""

from __future__ import annotations

from typing import Any

import torch

import unstale

USED = ("applied", "held")


def check(run: unstale.Run, batches: int | None = None) -> None:
    """Every batch accepted once or quarantined (``batches``: of a finished run); history and log agree."""
    events = _events(run)
    accepted = _accepted(events)
    assert len(accepted) == len(set(accepted)), "a batch was accepted twice"
    assert not set(accepted) & set(run.quarantined), "a batch was accepted and quarantined"
    if batches is not None:
        assert run.status == "finished"
        assert {*accepted, *run.quarantined} == set(range(batches)), "a batch is missing"
    _check_history(run, events)


def _events(run: unstale.Run) -> list[Any]:
    assert run.events is not None
    events = list(run.events.itertuples(index=False))
    assert [event.seq for event in events] == list(range(len(events)))
    times: list[Any] = [event.time for event in events]
    versions: list[Any] = [event.version for event in events if event.kind != "resume"]  # which tells none
    assert times == sorted(times), "the log goes back in time"
    assert versions == sorted(versions), "the log goes back in versions"
    return events


def _accepted(events: list[Any]) -> list[int]:
    """Batches in the order in which they were accepted, each from the worker that was out with it."""
    out: dict[int, tuple[int, int | None]] = {}  # by worker: ticket, and its batch where the log has told it yet
    issued: set[int] = set()
    accepted: list[int] = []

    def issue(worker: int, ticket: int, batch: int | None) -> None:
        assert ticket not in issued, "a ticket was issued twice"
        assert batch is None or batch not in {known for _, known in out.values()}, "a batch is out twice"
        issued.add(ticket)
        out[worker] = ticket, batch

    for event in events:
        if event.kind == "pull" and event.outcome == "issued":
            issue(event.worker, event.ticket, event.batch)
        elif event.kind in ("push", "exchange"):
            current = out.get(event.worker, (-1, None))[0] == event.ticket
            counts = event.outcome not in ("late", "spent")
            assert counts == current, f"ticket {event.ticket} is {event.outcome}"
            if counts:
                _, batch = out.pop(event.worker)
                assert batch in (None, event.batch)
            if event.outcome in USED:
                accepted.append(event.batch)
            if event.reply >= 0:
                issue(event.worker, event.reply, None)
        elif event.kind in ("depart", "expire", "cancel"):
            out.pop(event.worker, None)
    return accepted


def _check_history(run: unstale.Run, events: list[Any]) -> None:
    pushes = [event for event in events if event.kind in ("push", "exchange")]
    history = run.history
    assert history["push"].to_list() == list(range(len(history))), "the history has holes"
    for name in ("worker", "outcome", "time"):
        assert history[name].to_list() == [getattr(event, name) for event in pushes], (
            f"history and log differ in {name}"
        )
    used = history[history["outcome"].isin(USED)]["progress"].to_list()
    assert used == sorted(set(used)), "progress does not go up with every batch"


def check_sums(server: unstale.Server) -> None:
    """S = Σ v_i over those alive, where the method keeps that sum."""
    if "S" not in server._memory.shared:
        return
    rows = [server.state("v", worker) for worker in server.workers]
    total = torch.stack(rows).sum(0) if rows else torch.zeros(server.layout.size)
    torch.testing.assert_close(server.state("S"), total, rtol=1e-4, atol=1e-5, equal_nan=True)
