"""Streams at the server: in order, one worker at a time, each batch once, and a memory that belongs to one worker."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unstale import Server
from unstale.errors import ArgumentError
from unstale.methods import asgd, sync
from unstale.tickets import Ticket

LENGTH = 3


def server(workers: int = 2, batches: int = 12, **options: Any) -> Server:
    named = {"lr": 0.1, "batches": batches, "batches_per_epoch": 6, "batches_per_stream": LENGTH, **options}
    return Server(torch.zeros(2), named.pop("method", "asgd"), workers, **named)


def pulled(s: Server, worker: int) -> Ticket:
    ticket = s.pull(worker)
    assert ticket is not None
    return ticket


def left_by(ticket: Ticket) -> tuple[Tensor, ...]:
    """A memory that lists the batches it has seen."""
    before = ticket.start.memory[0] if ticket.start.memory else torch.empty(0)
    return (torch.cat([before, torch.tensor([float(ticket.batch)])]),)


def push(s: Server, ticket: Ticket, **options: Any) -> str:
    return s.push(ticket, torch.ones(2), memory=left_by(ticket), **options).outcome


def remembered(ticket: Ticket) -> list[int]:
    return [int(batch) for part in ticket.start.memory for batch in part]


def test_a_stream_goes_on_in_order_with_its_memory() -> None:
    s = server()
    seen: dict[int, list[int]] = {0: [], 1: []}
    for turn in range(6):
        for worker in (1, 0) if turn % 2 else (0, 1):
            ticket = pulled(s, worker)
            stream = ticket.batch // LENGTH
            assert ticket.start.stream == stream
            assert remembered(ticket) == list(range(stream * LENGTH, ticket.batch))
            assert not ticket.start.reset
            seen[worker].append(ticket.batch)
            assert push(s, ticket) == "applied"
    assert seen[0] == [0, 1, 2, 9, 10, 11]
    assert seen[1] == [3, 4, 5, 6, 7, 8]
    assert s.finished


def test_another_worker_takes_over_without_the_memory() -> None:
    s = server()
    push(s, pulled(s, 0))
    s.depart(0)
    taken = pulled(s, 1)
    assert (taken.batch, taken.start) == (1, (0, (), True))
    push(s, taken)
    on = pulled(s, 1)
    assert (on.batch, remembered(on), on.start.reset) == (2, [1], False)


def test_a_worker_that_comes_back_finds_its_memory() -> None:
    s = server()
    push(s, pulled(s, 0))
    out = pulled(s, 0)
    s.depart(0, failed=True)
    s.join(0)
    again = pulled(s, 0)
    assert (again.batch, remembered(again), again.start.reset) == (out.batch, [0], False)


def test_a_silent_worker_loses_its_stream() -> None:
    s = server()
    push(s, pulled(s, 0))
    silent = pulled(s, 0)
    assert s.expire(silent) == ()
    taken = pulled(s, 1)
    assert (taken.batch, taken.start.reset) == (1, True)
    assert push(s, silent) == "late"
    assert pulled(s, 0).start.stream == 1
    push(s, taken)
    assert remembered(pulled(s, 1)) == [1], "what the late push left is not kept"


@pytest.mark.parametrize("void", [True, False])
def test_a_batch_that_comes_back_starts_from_the_same_memory(void: bool) -> None:
    s = server(on_nonfinite="reject")
    push(s, pulled(s, 0))
    first = pulled(s, 0)
    if not void:
        assert s.push(first, torch.full((2,), torch.nan), memory=left_by(first)).outcome == "rejected"
    again = pulled(s, 0)
    assert (again.batch, remembered(again), again.start.reset) == (1, [0], False)


def test_after_a_quarantined_batch_the_memory_is_reset() -> None:
    s = server(1)
    push(s, pulled(s, 0))
    for _ in range(3):
        bad = pulled(s, 0)
        s.push(bad, torch.full((2,), torch.nan), memory=left_by(bad))
    assert s.quarantined == (1,)
    after = pulled(s, 0)
    assert (after.batch, after.start.reset, after.start.memory) == (2, True, ())


def test_at_the_end_a_worker_without_a_stream_is_idle() -> None:
    s = server(2, batches=4)
    for _ in range(2):
        push(s, pulled(s, 0))
    push(s, pulled(s, 1))
    assert s.pull(1) is None, "the second stream was cut short, and the first is another's"
    assert s.depart(0) == (1,)
    assert pulled(s, 1).start == (0, (), True)


def test_a_barrier_does_not_wait_for_idle_workers() -> None:
    s = server(3, batches=7, method=sync())
    accepted = []
    while not s.finished:
        tickets = [t for worker in range(3) if (t := s.pull(worker)) is not None]
        assert tickets
        for ticket in tickets:
            outcome = push(s, ticket)
            assert outcome in ("applied", "held")
            accepted.append(ticket.batch)
    assert sorted(accepted) == list(range(7))


def test_memory_is_checked_before_anything_changes() -> None:
    s = server()
    ticket = pulled(s, 0)
    for wrong in (None, torch.zeros(2), (1.0,)):
        with pytest.raises(ArgumentError, match="memory must come with a push"):
            s.push(ticket, torch.ones(2), memory=wrong)  # type: ignore[arg-type]
    assert push(s, ticket) == "applied"
    plain = Server(torch.zeros(2), asgd(), 1, lr=0.1)
    with pytest.raises(ArgumentError, match="memory is for a server with streams"):
        plain.push(pulled(plain, 0), torch.ones(2), memory=(torch.ones(1),))
    with pytest.raises(ArgumentError, match="batches_per_stream must be a whole number"):
        Server(torch.zeros(2), asgd(), 1, batches_per_stream=0)


def test_the_server_s_memory_is_its_own() -> None:
    s = server()
    ticket = pulled(s, 0)
    memory = (torch.ones(2, requires_grad=True) * 2,)
    s.push(ticket, torch.ones(2), memory=memory)
    with torch.no_grad():
        memory[0].zero_()
    kept = pulled(s, 0).start.memory[0]
    assert kept.tolist() == [2.0, 2.0]
    assert not kept.requires_grad


def test_it_goes_on_from_a_saved_state() -> None:
    s = server()
    push(s, pulled(s, 0))
    push(s, pulled(s, 1))
    out = pulled(s, 0)
    state = s.state_dict()
    other = server()
    other.load_state_dict(state)
    assert [(t.batch, remembered(t)) for t in other.outstanding()] == [(1, [0])]
    for one in (s, other):
        assert push(one, out) == "applied"
        assert [(t.batch, remembered(t)) for t in (pulled(one, 1), pulled(one, 0))] == [(4, [3]), (2, [0, 1])]
    with pytest.raises(ArgumentError, match="same batches"):
        server(batches_per_stream=2).load_state_dict(state)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_each_batch_is_accepted_once_and_in_order(data: st.DataObject) -> None:
    """Pulls, pushes, deaths and silence in any order; then everybody who is left works to the end."""
    s = server(3, batches=11)
    log: list[int] = []
    out: dict[int, Ticket] = {}
    last: dict[int, tuple[int, int]] = {}  # stream → worker and batch of its last accepted push

    def work(worker: int) -> None:
        if worker in out:
            ticket = out.pop(worker)
            if push(s, ticket) == "applied":
                log.append(ticket.batch)
                last[ticket.batch // LENGTH] = (worker, ticket.batch)
        elif (ticket := s.pull(worker)) is not None:  # type: ignore[assignment]
            stream, place = divmod(ticket.batch, LENGTH)
            assert all(o.start.stream != stream for o in out.values() if o.worker != worker), "one at a time"
            continues = last.get(stream) == (worker, ticket.batch - 1)
            assert ticket.start.reset == (place > 0 and not continues)
            assert bool(ticket.start.memory) == (place > 0 and continues)
            out[worker] = ticket

    for _ in range(data.draw(st.integers(0, 30))):
        worker = data.draw(st.sampled_from(s.workers))
        act = data.draw(st.sampled_from(["work", "work", "work", "die", "expire"]))
        if act == "work":
            work(worker)
        elif act == "die":
            s.depart(worker)
            out.pop(worker, None)
            s.join(worker)
        elif worker in out:
            s.expire(out.pop(worker))
    for _ in range(60):
        for worker in s.workers:
            work(worker)
    assert s.finished
    assert sorted(log) == list(range(11))
    for stream in range(4):
        mine = [batch for batch in log if batch // LENGTH == stream]
        assert mine == sorted(mine)
