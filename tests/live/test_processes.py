"""Real workers: one of them is the simulator, to the bit; several, and dying ones, can be replayed to the bit."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

import unstale
from tests.engines.problems import blobs, equal, trained
from unstale.clocks import Gamma
from unstale.engines import Plan
from unstale.engines.live.processes import Processes
from unstale.engines.replay import repeat
from unstale.methods import Method, get

SMALL: dict[str, Any] = {"lr": 0.05, "batch_size": 8, "epochs": 3}


class At(unstale.Callback):
    """Does something at exact pushes: ``what(live, worker)``."""

    def __init__(self, pushes: set[int], what: Callable[[unstale.LiveRun, int], None]) -> None:
        self.pushes, self.what = pushes, what
        self.live: unstale.LiveRun | None = None
        self.incidents: list[tuple[int, str]] = []

    def on_push(self, row: Mapping[str, Any]) -> None:
        if row["push"] in self.pushes:
            assert self.live is not None
            self.what(self.live, row["worker"])

    def on_incident(self, worker: int, reason: str) -> None:
        self.incidents.append((worker, reason))


def run(method: str | Method, workers: int, at: At | None = None, **changes: Any) -> unstale.Run:
    settings = {**SMALL, **changes}
    live = unstale.launch(blobs(), method, workers, callbacks=[] if at is None else [at], **settings)
    if at is not None:
        at.live = live
    return live.result(300)


def plan(method: str | Method, workers: int, **changes: Any) -> Plan:
    return Plan(task=blobs(), method=get(method), workers=workers, **{**SMALL, **changes})


def kill(live: unstale.LiveRun, worker: int) -> None:
    fleet = live._conductor.fleet
    assert isinstance(fleet, Processes)
    os.kill(fleet.process(worker), signal.SIGKILL)


@pytest.mark.parametrize("name", ["ga", "dana_ga", "sync"])
def test_one_process_is_the_simulator(name: str) -> None:
    real = run(name, 1)
    simulated = trained(name, 1, strategy="sequential", **SMALL)
    assert all(torch.equal(real.params[key], value) for key, value in simulated.params.items())
    assert real.history["loss"].equals(simulated.history["loss"])


def test_several_with_a_crash_are_replayed_to_the_bit() -> None:
    at = At({5}, kill)
    real = run("dana_ga", 3, at, pace=Gamma(mean=0.02, cv=0.5))
    assert [reason for _, reason in at.incidents if "SIGKILL" in reason]
    assert real.events is not None
    assert equal(real, repeat(plan("dana_ga", 3), real.events))


def test_workers_have_cores_of_their_own_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a core each, they wait there wide awake; else they share all, and whoever waits sleeps."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    monkeypatch.setattr(Processes, "_cores", cores)
    for workers in (len(cores), len(cores) + 1):
        seen: dict[int, set[int]] = {}

        def look(live: unstale.LiveRun, worker: int, seen: dict[int, set[int]] = seen) -> None:
            fleet = live._conductor.fleet
            assert isinstance(fleet, Processes)
            seen |= {n: os.sched_getaffinity(fleet.process(n)) for n in fleet._members if fleet.process(n)}
            eager = [pickle.loads(fleet._setup(n)).eager > 0 for n in range(len(cores) + 1)]
            assert eager == [len(seen) == len(cores)] * len(cores) + [False], "nor is one that comes later"

        # By then all are up: the gate opens only when each has pushed.
        run("sync", workers, At({2 * workers}, look))
        alone = workers == len(cores)
        assert seen == {n: {cores[n]} if alone else set(cores) for n in range(workers)}
