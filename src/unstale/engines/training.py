"""What the runs of all engines have in common: a server, evaluations of its θ, a record, and an end."""

from __future__ import annotations

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from unstale.callbacks import Callback, StopRun
from unstale.describe import Plain
from unstale.engines.base import Plan, versions
from unstale.engines.evaluate import Evaluator, named_tensors
from unstale.errors import Interrupted
from unstale.measure import Receipt
from unstale.record import Recorder, Run
from unstale.server import Server
from unstale.tickets import Ticket

__all__ = ["Training"]


class Training(ABC):
    """One run. ``now`` is its time: simulated, or seconds since the start. ``server`` makes its server."""

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

    @abstractmethod
    def train(self, let_through: Callable[[], None]) -> None:
        """From the first pull to the last push. ``let_through`` is called where an interruption may come."""

    def means(self) -> dict[str, Plain]:
        """How it was computed: with that in the plan, it is computed so again."""
        return {}

    def extras(self) -> dict[str, Any]:
        """What the engine adds to a `Run`."""
        return {}

    def run(self, let_through: Callable[[], None] = lambda: None) -> Run:
        """To the end, or as far as it gets."""
        started = time.perf_counter()
        try:
            status = self._status(lambda: self._train(let_through))
            # If a callback asks to stop once more, there is nothing left to stop.
            if status != "interrupted" and self._status(self.evaluate) == "interrupted":
                status = "interrupted"
        except Exception:
            self._end("failed", started)
            raise
        run = self._end(status, started)
        if status == "interrupted":
            raise Interrupted(run)
        return run

    def evaluate(self) -> None:
        """Score θ, unless it was just done."""
        self._due = self.plan.next_evaluation(self.server.accepted)
        seen = (self.server.progress, self.server.version)
        if self._seen == seen:
            return
        self._seen = seen
        row = self.recorder.evaluation(self.server.progress, self.now, self._evaluator(self.server))
        for callback in self.callbacks:
            callback.on_evaluation(row)

    def evaluate_if_due(self) -> None:
        """After a push."""
        if self.server.accepted >= self._due:
            self.evaluate()

    def record(self, ticket: Ticket, loss: float, receipt: Receipt) -> None:
        """A row for a push."""
        row = self.recorder.push(self.now, ticket, loss, receipt)
        for callback in self.callbacks:
            callback.on_push(row)
        if self.plan.stop_on_divergence and not (receipt.finite and math.isfinite(loss)):
            raise StopRun

    def _train(self, let_through: Callable[[], None]) -> None:
        for callback in self.callbacks:
            callback.on_start(self.plan)
        self.evaluate()
        self.train(let_through)

    def _status(self, work: Callable[[], None]) -> str:
        """How a stretch of work ended."""
        try:
            work()
        except StopRun:
            return "stopped"
        except KeyboardInterrupt:
            return "interrupted"
        return "finished"

    def _end(self, status: str, started: float) -> Run:
        self._evaluator.prepare(self.server)
        run = Run(
            config={**self.plan.describe(), **self.means(), "engine": self.engine, "versions": versions()},
            history=self.recorder.history(),
            evaluations=self.recorder.evaluations(),
            params=named_tensors(self._evaluator.module),
            status=status,
            seconds=time.perf_counter() - started,
            cancelled=self.recorder.cancelled,
            quarantined=self.server.quarantined,
            **self.extras(),
        )
        for callback in self.callbacks:
            callback.on_end(run)
        return run
