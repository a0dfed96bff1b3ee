"""Asynchronous training in simulated time: deterministic, event by event.

With ``strategy="sequential"``, gradients are computed one by one when they are due: the reference that every other
strategy and engine is compared with.
"""

from __future__ import annotations

import copy
import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from unstale.callbacks import Callback, StopRun
from unstale.describe import Plain
from unstale.engines.allocator import memory_kept
from unstale.engines.base import Plan, versions
from unstale.engines.clipping import clipped
from unstale.engines.evaluate import Evaluator, named_tensors
from unstale.engines.gradients import Computed, Crew, Strategy, one_thread
from unstale.engines.gradients.choose import Chosen, choose
from unstale.engines.gradients.precision import tensor_cores
from unstale.engines.interrupts import interrupts_between_pushes
from unstale.engines.planner import Planner
from unstale.errors import Interrupted
from unstale.measure import Receipt
from unstale.record import Recorder, Run
from unstale.tickets import Ticket

__all__ = ["Simulation", "prepared", "simulate"]


def simulate(plan: Plan, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Run ``plan`` in the simulator. Raises `Interrupted`, which carries the run so far, on Ctrl-C."""
    with _simulation(plan, callbacks) as simulation, interrupts_between_pushes() as let_through:
        run = simulation.run(let_through)
        try:
            let_through()
        except KeyboardInterrupt:
            raise Interrupted(run) from None
        return run


@contextmanager
def prepared(plan: Plan) -> Iterator[Simulation]:
    """A simulation that has started and is driven push by push, with `Simulation.advance`."""
    with _simulation(plan, ()) as simulation:
        simulation.start()
        yield simulation


def settle(plan: Plan, pushes: int, threads: int | None) -> Chosen:
    """How the gradients of runs like ``plan``, ``pushes`` in all, should be computed; None: all threads there are."""
    with one_thread() as there, memory_kept():
        chosen, why = Simulation(plan, (), there if threads is None else threads).choose(pushes)
        # Compiling is for one model in one process, and would come again with every run.
        return replace(chosen, compiled=False), why


@contextmanager
def _simulation(plan: Plan, callbacks: tuple[Callback, ...]) -> Iterator[Simulation]:
    with one_thread() as threads, tensor_cores(plan), memory_kept():
        simulation = Simulation(plan, callbacks, threads)
        try:
            yield simulation
        finally:
            simulation.close()


class Simulation:
    """Workers that push when their clock says so; (time, worker) orders the events.

    ``threads`` is how many it may use. ``strategy`` is the way in which it computes gradients, and ``chosen`` why.
    """

    def __init__(self, plan: Plan, callbacks: tuple[Callback, ...] = (), threads: int = 1) -> None:
        self.plan = plan
        self.callbacks = callbacks
        self.strategy, self.chosen = Strategy(), ""
        self._threads = threads
        self._module = plan.task.build(plan.seed).to(plan.device, plan.dtype)
        self._evaluator = Evaluator(plan, copy.deepcopy(self._module))
        self.server = plan.server(self._module)
        self._planner: Planner | None = None
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
        self.start()
        while self._events:
            let_through()
            self._step()
            if self.server.accepted >= self._due:
                self._evaluate()

    def start(self) -> None:
        """Every worker pulls; then it is settled how their gradients are computed."""
        for worker in self.server.workers:
            self._start(worker, self.server.pull(worker))
        self.strategy, self.chosen = self.choose(self.plan.pushes)
        self._planner = Planner(Crew(self.plan, self._module, self.server.layout, self.strategy))

    def choose(self, pushes: int) -> Chosen:
        """The strategy for so many gradients, tried on the first tickets."""
        first = self._soonest(len(self._out)) or [t for w in self.server.workers if (t := self.server.pull(w))]
        return choose(self.plan, self._module, self.server.layout, first, pushes, self._threads)

    def advance(self, pushes: int) -> None:
        """So many further pushes, without evaluations."""
        done = self._recorder.pushes + pushes
        while self._events and self._recorder.pushes < done:
            self._step()

    def close(self) -> None:
        """End the threads that compute gradients."""
        if self._planner is not None:
            self._planner.close()

    def _step(self) -> None:
        """The next push, and all that follows from it at once."""
        assert self._planner is not None
        now, worker, number = self._events[0]
        ticket = self._out.get(worker)
        if ticket is None or ticket.number != number:
            heapq.heappop(self._events)
            return  # cancelled on the way: the worker has started on another one since, or waits
        self._now = now
        computed = clipped(self._planner.gradient(ticket, len(self._out), self._soonest), self.plan.clip)
        heapq.heappop(self._events)
        if self.server.waiting:
            # Whoever this releases starts at the same time as this worker: the tie is broken by number.
            receipt = self.server.push(ticket, computed.gradient, buffers=computed.buffers, memory=computed.memory)
            starters = sorted({worker, *receipt.cancelled, *receipt.released})
        else:
            receipt, answer = self.server.exchange(
                ticket, computed.gradient, buffers=computed.buffers, memory=computed.memory
            )
            self._start(worker, answer)
            starters = sorted({*receipt.cancelled, *receipt.released} - {worker})
        for cancelled in receipt.cancelled:
            if cancelled in self._out:
                self._planner.forget(self._out[cancelled])
        for starter in starters:
            self._start(starter, self.server.pull(starter))
        self._record(ticket, computed, receipt)

    def _soonest(self, count: int) -> list[Ticket]:
        """The tickets without a gradient that will be pushed soonest, in order."""
        planner = self._planner
        valid = (
            event
            for event in self._events
            if (out := self._out.get(event[1])) is not None
            and out.number == event[2]
            and not (planner is not None and planner.has(out))
        )
        return [self._out[worker] for _, worker, _ in heapq.nsmallest(count, valid)]

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

    def _means(self) -> dict[str, Plain]:
        """How it was computed: with that in the plan, it is computed so again."""
        return {"strategy": str(self.strategy), "strategy_reason": self.chosen}

    def _end(self, status: str, started: float) -> Run:
        self._evaluator.prepare(self.server)
        run = Run(
            config={**self.plan.describe(), **self._means(), "engine": "simulate", "versions": versions()},
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
