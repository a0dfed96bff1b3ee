"""Asynchronous training in simulated time: deterministic, event by event.

With ``strategy="sequential"``, gradients are computed one by one when they are due: the reference that every other
strategy and engine is compared with.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from unstale.callbacks import Callback
from unstale.checkpoint import Checkpoints
from unstale.describe import Plain
from unstale.engines.allocator import memory_kept
from unstale.engines.base import Plan
from unstale.engines.clipping import clipped
from unstale.engines.gradients import Crew, Strategy, one_thread
from unstale.engines.gradients.base import hand_in
from unstale.engines.gradients.choose import Chosen, choose
from unstale.engines.gradients.precision import tensor_cores
from unstale.engines.interrupts import interrupts_held
from unstale.engines.planner import Planner
from unstale.engines.training import Training
from unstale.errors import Interrupted
from unstale.record import Run
from unstale.tickets import Ticket

__all__ = ["Simulation", "prepared", "simulate"]


def simulate(
    plan: Plan,
    callbacks: tuple[Callback, ...] = (),
    *,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
) -> Run:
    """Run ``plan`` in the simulator; see `Engine`."""
    with _simulation(plan, callbacks) as simulation, interrupts_held() as let_through:
        simulation.keep_in(checkpoints, resume)
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


class Simulation(Training):
    """Workers that push when their clock says so; (time, worker) orders the events.

    ``threads`` is how many it may use. ``strategy`` is the way in which it computes gradients, and ``chosen`` why.
    """

    engine = "simulate"

    def __init__(self, plan: Plan, callbacks: tuple[Callback, ...] = (), threads: int = 1) -> None:
        super().__init__(plan, callbacks)
        self.strategy, self.chosen = Strategy(), ""
        self._threads = threads
        self._planner: Planner | None = None
        self._durations = plan.clock.stream(plan.seed)
        self._jobs: Counter[int] = Counter()
        self._out: dict[int, Ticket] = {}
        self._events: list[tuple[float, int, int]] = []

    def train(self, let_through: Callable[[], None]) -> None:
        """See `Training`."""
        if self._planner is None:
            self.start()
        while self._events:
            let_through()
            self._step()
            self.evaluate_if_due()
            self.keep_if_due()

    def start(self) -> None:
        """Every worker pulls; then it is settled how their gradients are computed."""
        for worker in self.server.workers:
            self._start(worker, self.server.pull(worker))
        self.strategy, self.chosen = self.choose(self.plan.pushes)
        self._planner = self._new_planner()
        self.whole = True

    def _new_planner(self) -> Planner:
        return Planner(Crew(self.plan, self.module, self.server.layout, self.strategy))

    def choose(self, pushes: int) -> Chosen:
        """The strategy for so many gradients, tried on the first tickets."""
        first = self._soonest(len(self._out)) or [t for w in self.server.workers if (t := self.server.pull(w))]
        return choose(self.plan, self.module, self.server.layout, first, pushes, self._threads)

    def advance(self, pushes: int) -> None:
        """So many further pushes, without evaluations."""
        done = self.recorder.pushes + pushes
        while self._events and self.recorder.pushes < done:
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
        self.whole = False
        self.now = now
        computed = clipped(self._planner.gradient(ticket, len(self._out), self._soonest), self.plan.clip)
        heapq.heappop(self._events)
        # Where others wait, whoever this releases starts at the same time as this worker, in the order of numbers.
        alone = not self.server.waiting
        receipt, answer = hand_in(self.server, ticket, computed, pull=alone)
        starters = {worker, *receipt.cancelled, *receipt.released}
        if alone:
            self._start(worker, answer)
            starters.remove(worker)
        for cancelled in receipt.cancelled:
            if cancelled in self._out:
                self._planner.forget(self._out[cancelled])
        for starter in sorted(starters):
            self._start(starter, self.server.pull(starter))
        self.record(ticket, computed.loss, receipt)

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
        done = self.now + self._durations.duration(worker, self._jobs[worker])
        self._jobs[worker] += 1
        heapq.heappush(self._events, (done, worker, ticket.number))

    def state_dict(self) -> dict[str, Any]:
        """See `Training`; the events to come, and how gradients are computed, with those that are there already."""
        assert self._planner is not None
        return {
            **super().state_dict(),
            "events": [list(event) for event in self._events],
            "jobs": [[worker, jobs] for worker, jobs in self._jobs.items()],
            "strategy": asdict(self.strategy),
            "chosen": self.chosen,
            "planner": self._planner.state_dict(),
            # Recalibration before an evaluation may draw from them.
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        self._events = [(time, worker, number) for time, worker, number in state["events"]]
        self._jobs = Counter(dict(state["jobs"]))
        self._out = {ticket.worker: ticket for ticket in self.server.outstanding()}
        self.strategy, self.chosen = Strategy(**state["strategy"]), state["chosen"]
        self._planner = self._new_planner()
        self._planner.load_state_dict(state["planner"], self.plan.device)
        torch.set_rng_state(state["random"])
        self.whole = True

    def means(self) -> dict[str, Plain]:
        """How it was computed: with that in the plan, it is computed so again."""
        return {"strategy": str(self.strategy), "strategy_reason": self.chosen}
