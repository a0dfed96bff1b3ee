"""How long everything took in a real run: its jobs, and the same as a timeline that browsers draw."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from unstale.events import Event

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DRAWN", "Job", "jobs", "timeline", "write_timeline"]

DRAWN = 50_000  # jobs in a timeline; a browser takes about four times as many
_INCIDENTS = {"join": "joins", "depart": "is gone", "expire": "is silent", "cancel": "is told to begin anew"}


class Job(NamedTuple):
    """A ticket that was sent; times are in seconds since the start of the run.

    sent: by the server; got, began, ended: by its worker; arrived: the gradient, at the server. NaN where none ever
    came, for its worker was lost, or the run was over.
    """

    worker: int
    ticket: int
    batch: float
    outcome: str
    sent: float
    got: float
    began: float
    ended: float
    arrived: float


def jobs(events: pd.DataFrame) -> pd.DataFrame:
    """One row for each `Job`, in the order in which they were sent."""
    import pandas as pd

    pulled = events[(events["kind"] == "pull") & (events["ticket"] >= 0)]
    answered = events[(events["kind"] == "exchange") & (events["reply"] >= 0)]
    sent = pd.concat([pulled, answered.assign(ticket=answered["reply"])]).sort_values("seq")
    pushed = events[events["kind"].isin(["push", "exchange"])].drop_duplicates(["worker", "ticket"])
    together = sent[["worker", "ticket", "time"]].merge(
        pushed[["worker", "ticket", "batch", "outcome", "got", "began", "ended", "time"]],
        on=["worker", "ticket"],
        how="left",
        suffixes=("_sent", "_arrived"),
    )
    return together.rename(columns={"time_sent": "sent", "time_arrived": "arrived"})[list(Job._fields)]


def timeline(events: pd.DataFrame, drawn: int = DRAWN) -> dict[str, Any]:
    """The first ``drawn`` jobs in Chrome's trace format, for ui.perfetto.dev or chrome://tracing: a track per worker.

    pull: the server's step, and the ticket's way to the worker. compute: the gradient. push: its way back. wait: for
    other workers, as a synchronous method has it. lost: a ticket that no gradient came for.
    """
    rows = jobs(events)
    shown = rows.iloc[:drawn]
    cut = len(rows) > len(shown)
    end = float(shown["sent"].max() if cut else events["time"].max())
    of = f" (the first {len(shown):,} of {len(rows):,} jobs)" if cut else ""
    workers = sorted({int(worker) for worker in events["worker"] if worker >= 0})
    named = [_name("process_name", 0, f"unstale{of}"), *(_name("thread_name", w, f"worker {w}") for w in workers)]
    departed = events[events["kind"] == "depart"]
    spans = [
        span
        for worker in workers
        for span in _spans(
            shown[shown["worker"] == worker], departed.loc[departed["worker"] == worker, "time"].to_list(), end
        )
    ]
    return {"displayTimeUnit": "ms", "traceEvents": [*named, *spans, *_incidents(events[events["time"] <= end])]}


def write_timeline(events: pd.DataFrame, path: Path) -> None:
    """As JSON."""
    path.write_text(json.dumps(timeline(events), separators=(",", ":")), encoding="utf-8")


def _spans(own: pd.DataFrame, gone: list[float], end: float) -> Iterator[dict[str, Any]]:
    """What a worker did, one after the other; ``gone``: when it was lost, or left."""
    free: float | None = None
    for job in (Job(*row) for row in own.itertuples(index=False, name=None)):
        about: dict[str, Any] = {"ticket": job.ticket}
        if free is not None and job.sent > free and not any(free <= time <= job.sent for time in gone):
            yield _span(job, "wait", free, job.sent, {})
        if math.isnan(job.arrived):
            until = next((time for time in gone if time >= job.sent), end)
            yield _span(job, "lost", job.sent, until, about)
            free = None
            continue
        # Clocks of other machines may be a little off.
        began = min(max(job.began, job.sent), job.arrived)
        ended = min(max(job.ended, began), job.arrived)
        about |= {"batch": int(job.batch), "outcome": job.outcome}
        yield _span(job, "pull", job.sent, began, about)
        yield _span(job, "compute", began, ended, about)
        yield _span(job, "push", ended, job.arrived, about)
        free = job.arrived


def _incidents(events: pd.DataFrame) -> Iterator[dict[str, Any]]:
    found = events[events["kind"].isin(list(_INCIDENTS))]
    for event in (Event(*row) for row in found.itertuples(index=False, name=None)):
        about = {"reason": event.outcome} if event.outcome else {}
        mark = {"name": _INCIDENTS[event.kind], "ph": "i", "s": "t", "ts": _microseconds(event.time)}
        yield {**mark, "pid": 0, "tid": event.worker, "args": about}


def _name(kind: str, worker: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": 0, "tid": worker, "args": {"name": name}}


def _span(job: Job, name: str, begin: float, end: float, about: dict[str, Any]) -> dict[str, Any]:
    start = _microseconds(begin)
    span = {"name": name, "cat": "worker", "ph": "X", "ts": start, "dur": round(_microseconds(end) - start, 1)}
    return {**span, "pid": 0, "tid": job.worker, "args": about}


def _microseconds(seconds: float) -> float:
    return round(seconds * 1e6, 1)
