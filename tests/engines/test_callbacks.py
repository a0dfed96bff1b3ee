"""Looking on, stopping, failing, Ctrl-C: a run ends whole."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from tests.engines.problems import trained
from unstale.callbacks import Callback, StopRun
from unstale.engines import Plan
from unstale.errors import Interrupted
from unstale.record import Run


class Counting(Callback):
    def __init__(self, stop_at: int = 10**9, error: type[BaseException] = StopRun) -> None:
        self.calls: list[str] = []
        self.stop_at, self.error = stop_at, error

    def on_start(self, plan: Plan) -> None:
        self.calls.append("start")

    def on_push(self, row: Mapping[str, Any]) -> None:
        self.calls.append("push")
        if self.calls.count("push") == self.stop_at:
            raise self.error

    def on_evaluation(self, row: Mapping[str, Any]) -> None:
        self.calls.append("evaluation")

    def on_end(self, run: Run) -> None:
        self.calls.append(run.status)


class Stopping(Counting):
    def on_evaluation(self, row: Mapping[str, Any]) -> None:
        super().on_evaluation(row)
        raise StopRun


def test_callbacks_see_everything_and_may_stop() -> None:
    counting = Counting()
    trained(epochs=1, callbacks=[counting])
    assert [key for key, _ in itertools.groupby(counting.calls)] == [
        "start",
        "evaluation",
        "push",
        "evaluation",
        "finished",
    ]
    stopped = trained(callbacks=[Counting(stop_at=5)])
    assert (stopped.status, len(stopped.history)) == ("stopped", 5)


def test_interruption_keeps_what_was_computed() -> None:
    with pytest.raises(Interrupted) as caught:
        trained(callbacks=[Counting(stop_at=7, error=KeyboardInterrupt)])
    run = caught.value.run
    assert (run.status, len(run.history)) == ("interrupted", 7)
    assert run.params


def test_stopping_twice_stops_once() -> None:
    stopping = Stopping()
    run = trained(callbacks=[stopping], stop_on_divergence=True)
    assert (run.status, len(run.history), stopping.calls) == ("stopped", 0, ["start", "evaluation", "stopped"])


def test_callbacks_end_when_a_run_fails() -> None:
    counting = Counting(stop_at=3, error=ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        trained(callbacks=[counting])
    assert counting.calls[-1] == "failed"


def test_ctrl_c_waits_for_the_end_of_the_push() -> None:
    """A real signal in the middle of a push: the row is written, and θ is what the rows say."""

    class Interrupting(Callback):
        def on_push(self, row: Mapping[str, Any]) -> None:
            if row["push"] == 4:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted) as caught:
        trained(callbacks=[Interrupting()])
    assert len(caught.value.run.history) == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    again = trained(callbacks=[Counting(stop_at=5)])
    assert torch.equal(again.params["weight"], caught.value.run.params["weight"])
