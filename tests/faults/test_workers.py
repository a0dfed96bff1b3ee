"""Workers that die, hang, or are slow: at exact pushes or batches, each with what becomes of it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import unstale
from tests.engines.problems import blobs, normed, trained
from tests.faults import faulty
from tests.faults.faulty import Faulty
from tests.faults.inject import BATCHES, HASTY, SMALL, At, about, ended, kill, plan, started
from unstale.clocks import Gamma
from unstale.engines.live.processes import Processes
from unstale.engines.replay import repeat
from unstale.methods import get
from unstale.methods.admission import MaxDelay

PACE = Gamma(mean=0.02, cv=0.5)


def undisturbed(method: str = "dana_ga") -> float:
    return trained(method, 2, strategy="sequential", **SMALL).score


def lost(run: unstale.Run) -> int:
    return sum(about(run, worker)["restarts"] for worker in range(len(run.members)))


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (faulty.raises, "RuntimeError: the disk with the pictures is gone"),
        (faulty.runs_out_of_memory, "out of memory"),
        (faulty.runs_out_of_memory_in_torch, "out of memory"),
        (faulty.dies, "killed by SIGKILL"),
        (faulty.exits, "SystemExit: 7"),
    ],
)
def test_a_worker_that_fails_over_a_batch_is_restarted(fault: Callable[..., Any], told: str, tmp_path: Path) -> None:
    at = At()
    run = ended(started(Faulty(blobs(), 5, fault, tmp_path), at=at, pace=PACE))
    assert told in at.reasons
    assert ("SIGKILL" in at.reasons) == (fault is faulty.dies)  # which would say "out of memory, perhaps"
    assert len(at.incidents) == lost(run) == 1
    assert any(told in reason for worker in range(2) for reason in about(run, worker)["failures"])
    assert not run.quarantined
    assert run.summary()["restarts"] == 1
    assert abs(run.score - undisturbed()) < 15


@pytest.mark.parametrize("method", ["asgd", "dana", "dc_asgd", "sync", "backup", "fedbuff"])
def test_a_killed_worker_is_restarted_and_the_run_can_be_replayed(method: str) -> None:
    at = At({3: kill, 10: kill})
    run = ended(started(method=method, workers=3, at=at, pace=PACE))
    assert at.reasons.count("SIGKILL") == 2
    assert run.events is not None
    again = repeat(plan(method=method, workers=3), run.events)
    assert all(bool((again.params[name] == value).all()) for name, value in run.params.items())
    assert abs(run.score - undisturbed(method)) < 15


@pytest.mark.parametrize("method", ["sync", "backup"])
def test_a_worker_killed_while_it_waits_does_not_lock_the_gate(method: str) -> None:
    """Killed in the callback of its push: if that was held, it waits at the barrier."""
    at = At(dict.fromkeys(range(0, 24, 4), kill))
    run = ended(started(method=method, workers=3, at=at, patience=unstale.Patience(back_off=0.0, max_restarts=99)))
    assert len(at.incidents) >= 4
    assert run.status == "finished"


@pytest.mark.parametrize("method", ["sync", "backup", "dana"])
def test_a_silent_worker_does_not_lock_the_others(method: str, tmp_path: Path) -> None:
    at = At()
    run = ended(started(Faulty(blobs(), BATCHES - 1, faulty.stops, tmp_path), method, at=at, patience=HASTY))
    assert (
        "did not answer within" in at.reasons
        or about(run, 0)["state"] == "silent"
        or about(run, 1)["state"] == "silent"
    )
    assert run.events is not None
    assert (run.events["kind"] == "expire").sum() == 1


def test_a_worker_that_hangs_is_killed_and_started_anew(tmp_path: Path) -> None:
    at = At()
    run = ended(started(Faulty(blobs(), 5, faulty.stops, tmp_path), workers=1, at=at, patience=HASTY))
    assert "did not answer within" in at.reasons
    assert about(run, 0)["restarts"] == 1
    assert not run.quarantined


def test_a_silent_worker_that_goes_on_is_late_and_works_on(tmp_path: Path) -> None:
    """It is stopped in the middle of a batch, and continued when that batch is done by the other."""

    class Continue(At):
        def on_push(self, row: Any) -> None:
            assert self.live is not None
            fleet = self.live._conductor.fleet
            assert isinstance(fleet, Processes)
            for member in self.live._conductor.members.values():
                if member.state == "silent":
                    os.kill(fleet.process(member.worker), signal.SIGCONT)

    at = Continue()
    task = Faulty(blobs(), 160, faulty.stops, tmp_path)
    run = ended(started(task, at=at, epochs=40, pace=PACE, patience=HASTY), 320)
    late = run.history["outcome"].to_list().count("late")
    assert late >= 1  # on a loaded machine another one may be thought silent
    assert not at.incidents
    assert run.summary()["late"] == late
    assert sum(about(run, worker)["late"] for worker in range(2)) == late
    assert run.events is not None
    assert repeat(plan(task, epochs=40), run.events).score == run.score


def test_a_slow_worker_is_waited_for(tmp_path: Path) -> None:
    at = At()
    run = ended(started(Faulty(blobs(), 5, faulty.is_slow, tmp_path), at=at))
    assert not at.incidents
    assert set(run.history["outcome"]) == {"applied"}


def test_after_its_last_restart_training_goes_on_without_it() -> None:
    patience = unstale.Patience(back_off=0.01, max_restarts=2)

    class Alive(At):
        def on_push(self, row: Any) -> None:
            assert self.live is not None
            if row["worker"] == 1:
                kill(self.live, 1)

    at = Alive()
    run = ended(started(workers=2, at=at, patience=patience, epochs=40, pace=PACE), 320)
    assert [worker for worker, _ in at.incidents] == [1, 1, 1]
    assert about(run, 1)["state"] == "gone"
    assert about(run, 0)["restarts"] == 0


def test_a_batch_that_always_fails_is_quarantined_and_named(tmp_path: Path) -> None:
    at = At()
    run = ended(started(Faulty(blobs(), 5, faulty.raises, tmp_path, times=99), at=at))
    assert run.quarantined == (5,)
    assert run.summary()["quarantined"] == [5]
    assert at.reasons.count("RuntimeError: the disk with the pictures is gone") == 3


def test_a_batch_over_which_every_worker_hangs_is_quarantined(tmp_path: Path) -> None:
    run = ended(started(Faulty(blobs(), 5, faulty.stops, tmp_path, times=99), patience=HASTY))
    assert run.quarantined == (5,)


def test_all_workers_gone_ends_the_run_with_the_reason() -> None:
    class Hopeless(At):
        def on_push(self, row: Any) -> None:
            assert self.live is not None
            kill(self.live, row["worker"])

    live = started(at=Hopeless(), patience=unstale.Patience(max_restarts=0))
    with pytest.raises(unstale.errors.RunError, match=r"all workers are gone after \d+ pushes.*SIGKILL"):
        live.result(900)


class CannotStart:
    def __init__(self) -> None:
        self.here = os.getpid()

    def __setstate__(self, state: dict[str, int]) -> None:
        if state["here"] != os.getpid():
            raise ImportError("no module named 'only_on_the_server'")
        self.__dict__.update(state)

    def __call__(self, output: Any, target: Any) -> Any:
        return output.float().mean()


def test_workers_that_cannot_start_say_why_and_do_not_try_for_ever() -> None:
    task = blobs()
    task.score = CannotStart()
    at = At()
    live = started(task, at=at, patience=unstale.Patience(back_off=0.01, max_restarts=1))
    with pytest.raises(unstale.errors.RunError, match="only_on_the_server"):
        live.result(900)
    assert len(at.incidents) == 4
    assert all("Traceback" in reason for _, reason in at.incidents)


def test_what_cannot_travel_is_refused_by_name_before_anything_starts() -> None:
    task, lock = blobs(), threading.Lock()
    task.score = lambda output, target: output.float().mean() if lock.locked() else 0.0
    with pytest.raises(unstale.errors.ArgumentError, match="the task's score cannot travel to another process"):
        started(task)


def test_a_killed_nursery_takes_its_workers_with_it_and_a_new_one_goes_on() -> None:
    seen: list[int] = []

    def kill_nursery(live: unstale.LiveRun, worker: int) -> None:
        fleet = live._conductor.fleet
        assert isinstance(fleet, Processes)
        seen.append(fleet._members[worker].nursery.process.pid)
        os.kill(seen[-1], signal.SIGKILL)

    at = At({5: kill_nursery})
    run = ended(started(at=at, epochs=40, pace=PACE), 320)  # so that it goes on when they are found dead
    assert sorted(worker for worker, _ in at.incidents) == [0, 1]
    assert lost(run) == 2
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


@pytest.mark.parametrize("policy", ["shared", "per-worker", "recalibrate"])
def test_batch_norm_and_clip_outlive_a_death(policy: Any) -> None:
    settings: dict[str, Any] = {"batch_norm": policy, "clip": 0.5}
    run = ended(started(blobs(normed), workers=2, at=At({5: kill}), **settings, pace=PACE))
    assert run.events is not None
    again = repeat(plan(blobs(normed), **settings), run.events)
    assert all(bool((again.params[name] == value).all()) for name, value in run.params.items())


def test_a_cancelled_gradient_that_comes_all_the_same_is_counted_once() -> None:
    cancelling = replace(get("asgd"), admission=MaxDelay(0, restart=True))
    run = ended(started(method=cancelling, workers=3, pace=PACE))
    assert run.events is not None
    tickets = run.events["outcome"].eq("issued").sum() + (run.events["reply"] >= 0).sum()
    summary: dict[str, Any] = run.summary()
    assert summary["late"]
    assert summary["wasted"] <= tickets - BATCHES
