"""Asynchronous training in simulated time: deterministic, event by event, gradients one by one.

The reference that every other engine is compared with.
"""

from __future__ import annotations

import copy
import heapq
import math
import time
from collections import Counter

from unstale.callbacks import Callback, StopRun
from unstale.engines.base import Plan, versions
from unstale.engines.evaluate import Evaluator, named_tensors
from unstale.engines.gradients import Computed, OneByOne, one_thread
from unstale.errors import Interrupted
from unstale.measure import Receipt
from unstale.record import Recorder, Run
from unstale.tickets import Ticket

__all__ = ["Simulation", "simulate"]


def simulate(plan: Plan, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Run ``plan`` in the simulator. Raises `Interrupted`, which carries the run so far, on Ctrl-C."""
    with one_thread():
        return Simulation(plan, callbacks).run()


class Simulation:
    """Workers that push when their clock says so; (time, worker) orders the events."""

    def __init__(self, plan: Plan, callbacks: tuple[Callback, ...] = ()) -> None:
        self.plan = plan
        self.callbacks = callbacks
        module = plan.task.build(plan.seed).to(plan.device, plan.dtype).train()
        self.server = plan.server(module)
        self._gradients = OneByOne(plan, module, self.server.layout)
        self._evaluator = Evaluator(plan, copy.deepcopy(plan.task.build(plan.seed)).to(plan.device, plan.dtype))
        self._recorder = Recorder()
        self._durations = plan.clock.stream(plan.seed)
        self._jobs: Counter[int] = Counter()
        self._out: dict[int, Ticket] = {}
        self._events: list[tuple[float, int, int]] = []
        self._now = 0.0
        self._evaluated = -1

    def run(self) -> Run:
        """To the end, or as far as it gets."""
        started = time.perf_counter()
        status = "finished"
        for callback in self.callbacks:
            callback.on_start(self.plan)
        try:
            self._evaluate()
            for worker in self.server.workers:
                self._start(worker, self.server.pull(worker))
            while self._events:
                self._step()
            self._evaluate()
        except StopRun:
            status = "stopped"
            self._evaluate()
        except KeyboardInterrupt:
            status = "interrupted"
        run = self._result(status, time.perf_counter() - started)
        for callback in self.callbacks:
            callback.on_end(run)
        if status == "interrupted":
            raise Interrupted(run)
        return run

    def _step(self) -> None:
        """The next push, and all that follows from it at once."""
        self._now, worker, number = heapq.heappop(self._events)
        ticket = self._out.get(worker)
        if ticket is None or ticket.number != number:
            return  # cancelled on the way: the worker has started on another one since, or waits
        computed = self._gradients.compute(ticket)
        receipt, answer = self.server.exchange(ticket, computed.gradient, buffers=computed.buffers)
        self._start(worker, answer)
        for other in (*receipt.cancelled, *receipt.released):
            self._start(other, self.server.pull(other))
        self._record(ticket, computed, receipt)
        if math.floor(self.server.progress / self.plan.eval_every) > self._evaluated:
            self._evaluate()

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
        progress = self.server.progress
        self._evaluated = math.floor(progress / self.plan.eval_every)
        if self._recorder.evaluated_at == progress:
            return
        row = self._recorder.evaluation(progress, self._now, self._evaluator(self.server))
        for callback in self.callbacks:
            callback.on_evaluation(row)

    def _result(self, status: str, seconds: float) -> Run:
        self._evaluator.prepare(self.server)
        return Run(
            config={**self.plan.describe(), "engine": "simulate", "versions": versions()},
            history=self._recorder.history(),
            evaluations=self._recorder.evaluations(),
            params=named_tensors(self._evaluator.module),
            status=status,
            seconds=seconds,
            quarantined=self.server.quarantined,
        )
