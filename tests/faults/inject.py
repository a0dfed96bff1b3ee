"""Faults at exact pushes, seen from the server; those at a batch, inside a worker, are in `tests.faults.faulty`."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import unstale
from tests.engines.problems import blobs
from tests.faults.checker import check, check_sums
from unstale.engines import Plan
from unstale.engines.live.conductor import Conductor
from unstale.engines.live.launch import LiveRun
from unstale.engines.live.processes import Processes
from unstale.events import EventLog
from unstale.methods import Method, get
from unstale.tasks import Task

SMALL: dict[str, Any] = {"lr": 0.05, "batch_size": 8, "epochs": 3}
BATCHES = 24  # of blobs with the settings above
QUICK = unstale.Patience(back_off=0.01, grace=5.0)
HASTY = unstale.Patience(back_off=0.01, floor=1.0, slowness=5.0, starting=6.0)
Does = Callable[[LiveRun, int], None]


class At(unstale.Callback):
    """``what(live, worker)`` at exact pushes, each counted from 0; keeps what was told of incidents."""

    def __init__(self, pushes: Mapping[int, Does] | None = None) -> None:
        self.pushes = dict(pushes or {})
        self.live: LiveRun | None = None
        self.incidents: list[tuple[int, str]] = []

    def on_push(self, row: Mapping[str, Any]) -> None:
        if row["push"] in self.pushes:
            assert self.live is not None
            self.pushes[row["push"]](self.live, row["worker"])

    def on_incident(self, worker: int, reason: str) -> None:
        self.incidents.append((worker, reason))

    @property
    def reasons(self) -> str:
        return "\n".join(reason for _, reason in self.incidents)


def started(
    task: Task | None = None, method: str | Method = "dana_ga", workers: int = 2, at: At | None = None, **changes: Any
) -> LiveRun:
    """A run on processes that has begun."""
    at = at or At()
    settings = {"patience": QUICK, **SMALL, **changes}
    at.live = unstale.launch(task or blobs(), method, workers, callbacks=[at], **settings)
    return at.live


def ended(live: LiveRun, batches: int | None = BATCHES) -> unstale.Run:
    """The run, which keeps all laws."""
    run = live.result(900)
    check(run, batches)
    check_sums(live._conductor.server)
    return run


def about(run: unstale.Run, worker: int) -> dict[str, Any]:
    """What the run tells of a worker."""
    (found,) = [member for member in run.members if isinstance(member, dict) and member["worker"] == worker]
    return found


def plan(task: Task | None = None, method: str | Method = "dana_ga", workers: int = 2, **changes: Any) -> Plan:
    return Plan(task=task or blobs(), method=get(method), workers=workers, **{**SMALL, **changes})


def conducted_by(
    fleet: Callable[..., Any],
    plan: Plan,
    at: At | None = None,
    patience: unstale.Patience = QUICK,
    kept: Path | None = None,
    resume: bool = False,
) -> LiveRun:
    """A run on another fleet; with a checkpoint in ``kept`` when it fails, or going on from there."""
    at = at or At()
    log = EventLog(None if kept is None else kept / "events", more=resume)
    checkpoints = None if kept is None else unstale.Checkpoints(kept, seconds=600.0)
    at.live = LiveRun(Conductor(plan, fleet, patience, log, (at,)), checkpoints, kept if resume else None)
    return at.live


def fails(live: LiveRun, worker: int) -> None:
    raise RuntimeError("as a full disk would, in a callback")


def send(number: int, worker: int | None = None) -> Does:
    """A signal to a worker's process: the one that has just pushed, or that one."""

    def does(live: LiveRun, pusher: int) -> None:
        fleet = live._conductor.fleet
        assert isinstance(fleet, Processes)
        os.kill(fleet.process(pusher if worker is None else worker), number)

    return does


kill = send(signal.SIGKILL)


def up(live: LiveRun) -> list[int]:
    """Workers that have a process, in whatever state."""
    fleet = live._conductor.fleet
    assert isinstance(fleet, Processes)
    return [worker for worker, member in fleet._members.items() if member.process]


def kill_any(chance: random.Random) -> Does:
    """Any worker, by any of two signals."""

    def does(live: LiveRun, pusher: int) -> None:
        number, worker = chance.choice([signal.SIGKILL, signal.SIGSEGV]), chance.choice(up(live))
        with contextlib.suppress(ProcessLookupError):  # it died of the kill before, which is not heard of yet
            send(number, worker)(live, pusher)

    return does
