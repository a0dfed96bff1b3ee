"""What the runs of all engines have in common: a server, evaluations of its θ, a record, checkpoints, and an end."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unstale.callbacks import Callback, StopRun
from unstale.checkpoint import Checkpoints
from unstale.describe import Plain
from unstale.engines.base import Plan, versions
from unstale.engines.evaluate import Evaluator, named_tensors
from unstale.engines.keeping import Keeper, opened
from unstale.errors import Interrupted
from unstale.measure import Receipt
from unstale.record import Run
from unstale.recorder import Recorder
from unstale.server import Server
from unstale.tickets import Ticket

__all__ = ["WALL", "Training"]

# In place of the plan's clock, where a run has its times from real workers.
WALL: dict[str, Plain] = {"type": "Wall"}


class Training(ABC):
    """One run. ``now`` is its time: simulated, or seconds since the start. ``server`` makes its server.

    ``whole``: whether its state is that between two pushes. An engine makes it false before it touches anything;
    `record`, which comes last, makes it true again. Only whole states go into checkpoints.
    """

    engine: str

    def __init__(
        self, plan: Plan, callbacks: tuple[Callback, ...] = (), server: Callable[..., Server] = Server
    ) -> None:
        self.plan = plan
        self.callbacks = callbacks
        self.module = plan.task.build(plan.seed).to(plan.device, plan.dtype)
        self.server = plan.server(self.module, server)
        self.recorder = Recorder()
        self.now = 0.0
        self._evaluator = Evaluator(plan, copy.deepcopy(self.module))
        self._due = 0
        self._seen: tuple[float, int] | None = None
        self._seconds = 0.0
        self._started = time.perf_counter()
        self._keeper = Keeper(None)
        self.whole = False

    @abstractmethod
    def train(self, let_through: Callable[[], None]) -> None:
        """From the first pull, or from a loaded state, to the last push, with `keep_if_due` after each.

        ``let_through`` is called where an interruption may come.
        """

    def means(self) -> dict[str, Plain]:
        """How it was computed, where that is not as the plan says."""
        return {}

    def extras(self) -> dict[str, Any]:
        """What the engine adds to a `Run`."""
        return {}

    def run(self, let_through: Callable[[], None] = lambda: None) -> Run:
        """To the end, or as far as it gets. Raises `StoreError` where another run keeps its checkpoints."""
        with self._keeper.alone():
            return self._run(let_through)

    def _run(self, let_through: Callable[[], None]) -> Run:
        self._started = time.perf_counter()
        try:
            status = self._status(lambda: self._train(let_through))
            # Before the last evaluation: a run that goes on does not have it.
            if status != "finished" and self._status(self._keep) == "interrupted":
                status = "interrupted"
            # If a callback asks to stop once more, there is nothing left to stop.
            if status != "interrupted" and self._status(self.evaluate) == "interrupted":
                status = "interrupted"
        except Exception:
            self._keep()
            self._end("failed")
            raise
        run = self._end(status)
        if status == "interrupted":
            raise Interrupted(run)
        return run

    def evaluate(self) -> None:
        """Score θ, unless it was just done."""
        seen, due = (self.server.progress, self.server.version), self.plan.next_evaluation(self.server.accepted)
        if self._seen == seen:
            self._due = due
            return
        found = self._evaluator(self.server)
        # An evaluation that was interrupted is made again.
        self._seen, self._due = seen, due
        row = self.recorder.evaluation(self.server.progress, self.now, found)
        for callback in self.callbacks:
            callback.on_evaluation(row)

    def evaluate_if_due(self) -> None:
        """After a push."""
        if self.server.accepted >= self._due:
            self.evaluate()

    def record(self, ticket: Ticket, loss: float, receipt: Receipt) -> None:
        """A row for a push."""
        row = self.recorder.push(self.now, ticket, loss, receipt)
        self.whole = True
        for callback in self.callbacks:
            callback.on_push(row)
        diverged = receipt.counted and not (receipt.finite and math.isfinite(loss))
        if diverged and self.plan.stop_on_divergence:
            raise StopRun

    def keep_in(self, checkpoints: Checkpoints | None, resume: Path | None) -> None:
        """Before `run`: where to write checkpoints, and from which folder's newest one to go on.

        Raises `StoreError` where that cannot be, and `ArgumentError` if ``resume`` is of another plan.
        """
        self._keeper, state = opened(checkpoints, resume, self.plan, self.engine)
        if state is not None:
            self.load_state_dict(state)

    def keep_if_due(self) -> None:
        """After a push and its evaluation: a checkpoint, if it is time for one."""
        self._keeper.look(self)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on; an engine adds its own."""
        return {
            "server": self.server.state_dict(),
            "recorder": self.recorder.state_dict(),
            "now": self.now,
            "due": self._due,
            "seen": self._seen,
            "seconds": self._elapsed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.server.load_state_dict(state["server"])
        self.recorder.load_state_dict(state["recorder"])
        self.now, self._due, self._seconds = state["now"], state["due"], state["seconds"]
        self._seen = None if state["seen"] is None else tuple(state["seen"])

    def _train(self, let_through: Callable[[], None]) -> None:
        for callback in self.callbacks:
            callback.on_start(self.plan)
        self._keeper.begin()
        self.evaluate_if_due()
        self.train(let_through)

    @property
    def _elapsed(self) -> float:
        """Seconds of wall time, those before an interruption included."""
        return self._seconds + time.perf_counter() - self._started

    def _keep(self) -> None:
        if self.whole:
            self._keeper.keep(self)

    def _status(self, work: Callable[[], None]) -> str:
        """How a stretch of work ended."""
        try:
            work()
        except StopRun:
            return "stopped"
        except KeyboardInterrupt:
            return "interrupted"
        return "finished"

    def _end(self, status: str) -> Run:
        self._evaluator.prepare(self.server)
        run = Run(
            config={**self.plan.describe(), **self.means(), "engine": self.engine, "versions": versions()},
            history=self.recorder.history(),
            evaluations=self.recorder.evaluations(),
            params=named_tensors(self._evaluator.module),
            status=status,
            seconds=self._elapsed,
            cancelled=self.recorder.cancelled,
            quarantined=self.server.quarantined,
            **self.extras(),
        )
        for callback in self.callbacks:
            callback.on_end(run)
        return run
