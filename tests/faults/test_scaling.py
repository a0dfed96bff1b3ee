"""Workers that are asked to come and go, and runs that are asked to stop."""

from __future__ import annotations

import time
from typing import Any

import pytest

import unstale
from tests.engines.problems import trained
from tests.faults.inject import BATCHES, SMALL, At, about, ended, kill, plan, started
from unstale.clocks import Gamma
from unstale.engines.replay import repeat

PACE = Gamma(mean=0.01, cv=0.5)


def scaled(workers: int) -> Any:
    return lambda live, worker: live._conductor.ask(lambda: live._conductor.scale(workers))


@pytest.mark.parametrize("method", ["dana", "sync", "fedbuff"])
def test_a_run_is_scaled_up_and_down(method: str) -> None:
    at = At({5: scaled(4), 60: scaled(1), 90: scaled(3), 91: kill, 92: scaled(2)})
    run = ended(started(method=method, workers=2, at=at, pace=PACE, epochs=40), 320)
    assert set(run.history["worker"]) >= {0, 1, 2, 3}
    assert all("SIGKILL" in reason for _, reason in at.incidents)
    assert run.events is not None
    again = repeat(plan(method=method, epochs=40), run.events)
    assert all(bool((again.params[name] == value).all()) for name, value in run.params.items())
    assert abs(run.score - trained(method, 2, strategy="sequential", **{**SMALL, "epochs": 40}).score) < 10


def test_scale_through_the_handle_tells_what_is_wrong() -> None:
    live = started(pace=PACE, epochs=40)
    with pytest.raises(unstale.errors.ArgumentError, match="workers must be"):
        live.scale(0)
    live.scale(3)
    stats = live.stats()
    assert isinstance(stats["workers"], list)
    assert len(stats["workers"]) == 3
    live.stop()
    run = ended(live, None)
    assert run.status == "stopped"
    assert live.stats()["pushes"] == len(run.history)
    with pytest.raises(unstale.errors.RunError, match="the run has ended"):
        live.scale(2)


def test_stop_lets_gradients_under_way_arrive() -> None:
    at = At({5: lambda live, worker: live.stop()})
    run = ended(started(workers=3, at=at, pace=Gamma(mean=0.1, cv=0.1), epochs=40), None)
    assert run.status == "stopped"
    assert 6 <= len(run.history) <= 6 + 3
    assert run.events is not None
    kinds = run.events["kind"].to_list()
    assert kinds.count("push") >= 1  # what arrived after the stop got no new ticket


def test_stop_before_the_first_worker_is_up() -> None:
    live = started(epochs=40)
    live.stop()
    run = ended(live, None)
    assert run.status == "stopped"
    assert len(run.history) < 320


@pytest.mark.parametrize(("grace", "signals"), [(0.2, [2]), (600.0, [15, 2])])
def test_an_interruption_waits_no_longer_than_the_grace_and_a_second_one_not_at_all(
    grace: float, signals: list[int]
) -> None:
    """Each gradient takes ten minutes; the run is over, and its workers gone, long before."""
    live = started(pace=Gamma(mean=600.0, cv=0.01), patience=unstale.Patience(grace=grace))
    deadline = time.monotonic() + 900
    while [member.state for member in live._conductor.members.values()] != ["busy", "busy"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for number in signals:
        live.interrupt(number)
    with pytest.raises(unstale.errors.Interrupted) as caught:
        live.result(900)
    assert caught.value.signal == signals[0]
    assert not len(caught.value.run.history)


def test_a_run_may_be_stopped_by_a_callback_over_an_incident() -> None:
    class Strict(At):
        def on_incident(self, worker: int, reason: str) -> None:
            raise unstale.StopRun

    run = ended(started(at=Strict({5: kill}), pace=PACE), None)
    assert run.status == "stopped"
    assert about(run, 0)
    assert len(run.history) < BATCHES
