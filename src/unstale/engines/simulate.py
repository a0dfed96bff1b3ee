"""Asynchronous training in simulated time: deterministic, event by event, gradients one by one.

The reference that every other engine is compared with.
"""

from __future__ import annotations

import copy
import heapq
import math
import time
from collections import Counter
from collections.abc import Callable

from unstale.callbacks import Callback, StopRun
from unstale.engines.base import Plan, versions
from unstale.engines.evaluate import Evaluator, named_tensors
from unstale.engines.gradients import Computed, OneByOne, one_thread
from unstale.engines.interrupts import interrupts_between_pushes
from unstale.errors import Interrupted
from unstale.measure import Receipt
from unstale.record import Recorder, Run
from unstale.tickets import Ticket

__all__ = ["Simulation", "simulate"]


def simulate(plan: Plan, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Run ``plan`` in the simulator. Raises `Interrupted`, which carries the run so far, on Ctrl-C."""
    with one_thread(), interrupts_between_pushes() as let_through:
        run = Simulation(plan, callbacks).run(let_through)
        try:
            let_through()
        except KeyboardInterrupt:
            raise Interrupted(run) from None
        return run


class Simulation:
    """Workers that push when their clock says so; (time, worker) orders the events."""

    def __init__(self, plan: Plan, callbacks: tuple[Callback, ...] = ()) -> None:
        self.plan = plan
        self.callbacks = callbacks
        module = plan.task.build(plan.seed).to(plan.device, plan.dtype)
        self._evaluator = Evaluator(plan, copy.deepcopy(module))
        self.server = plan.server(module)
        self._gradients = OneByOne(plan, module, self.server.layout)
        self._recorder = Recorder()
        self._durations = plan.clock.stream(plan.seed)
        self._jobs: Counter[int] = Counter()
        self._out: dict[int, Ticket] = {}
        self._events: list[tuple[float, int, int]] = []
        self._now = 0.0
        self._due = 0
        self._seen: tuple[float, int] | None = None

    def run(self, let_through: Callable[[], None] = lambda: None) -> Run:
        """To the end, or as far as it gets. ``let_through`` is called where an interruption may come."""
        started = time.perf_counter()
        try:
            status = self._status(lambda: self._train(let_through))
            # If a callback asks to stop once more, there is nothing left to stop.
            if status != "interrupted" and self._status(self._evaluate) == "interrupted":
                status = "interrupted"
        except Exception:
            self._end("failed", started)
            raise
        run = self._end(status, started)
        if status == "interrupted":
            raise Interrupted(run)
        return run

    def _status(self, work: Callable[[], None]) -> str:
        """How a stretch of work ended."""
        try:
            work()
        except StopRun:
            return "stopped"
        except KeyboardInterrupt:
            return "interrupted"
        return "finished"

    def _train(self, let_through: Callable[[], None]) -> None:
        for callback in self.callbacks:
            callback.on_start(self.plan)
        self._evaluate()
        for worker in self.server.workers:
            self._start(worker, self.server.pull(worker))
        while self._events:
            let_through()
            self._step()
            if self.server.accepted >= self._due:
                self._evaluate()

    def _step(self) -> None:
        """The next push, and all that follows from it at once."""
        now, worker, number = heapq.heappop(self._events)
        ticket = self._out.get(worker)
        if ticket is None or ticket.number != number:
            return  # cancelled on the way: the worker has started on another one since, or waits
        self._now = now
        computed = self._gradients.compute(ticket)
        if self.server.waiting:
            # Whoever this releases starts at the same time as this worker: the tie is broken by number.
            receipt = self.server.push(ticket, computed.gradient, buffers=computed.buffers)
            starters = sorted({worker, *receipt.cancelled, *receipt.released})
        else:
            receipt, answer = self.server.exchange(ticket, computed.gradient, buffers=computed.buffers)
            self._start(worker, answer)
            starters = sorted({*receipt.cancelled, *receipt.released} - {worker})
        for starter in starters:
            self._start(starter, self.server.pull(starter))
        self._record(ticket, computed, receipt)

    def _start(self, worker: int, ticket: Ticket | None) -> None:
        """A worker begins its next job, unless it has to wait."""
        if ticket is None:
            self._out.pop(worker, None)
            return
        self._out[worker] = ticket
        done = self._now + self._durations.duration(worker, self._jobs[worker])
        self._jobs[worker] += 1
        heapq.heappush(self._events, (done, worker, ticket.number))

    def _record(self, ticket: Ticket, computed: Computed, receipt: Receipt) -> None:
        row = self._recorder.push(self._now, ticket, computed.loss, receipt)
        for callback in self.callbacks:
            callback.on_push(row)
        if self.plan.stop_on_divergence and not (receipt.finite and math.isfinite(computed.loss)):
            raise StopRun

    def _evaluate(self) -> None:
        """Unless θ was just evaluated."""
        self._due = self.plan.next_evaluation(self.server.accepted)
        seen = (self.server.progress, self.server.version)
        if self._seen == seen:
            return
        self._seen = seen
        row = self._recorder.evaluation(self.server.progress, self._now, self._evaluator(self.server))
        for callback in self.callbacks:
            callback.on_evaluation(row)

    def _end(self, status: str, started: float) -> Run:
        self._evaluator.prepare(self.server)
        run = Run(
            config={**self.plan.describe(), "engine": "simulate", "versions": versions()},
            history=self._recorder.history(),
            evaluations=self._recorder.evaluations(),
            params=named_tensors(self._evaluator.module),
            status=status,
            seconds=time.perf_counter() - started,
            cancelled=self._recorder.cancelled,
            quarantined=self.server.quarantined,
        )
        for callback in self.callbacks:
            callback.on_end(run)
        return run
