"""Threads that compute gradients, while the one that commits them goes on."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from unstale.engines.gradients.base import Computed, Computer, Job
from unstale.engines.gradients.batched import Batched
from unstale.engines.gradients.one_by_one import OneByOne, job
from unstale.engines.gradients.strategy import Strategy
from unstale.engines.gradients.tape import Tapes
from unstale.flat import Layout
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Crew", "Pending"]


class Pending(NamedTuple):
    """A gradient that is being computed, or is there: its place in what a group gives."""

    group: _Group
    place: int

    def result(self) -> Computed:
        """Waits for it."""
        return self.group.result()[self.place]


class Crew:
    """Computes groups of tickets by one strategy, in so many threads, the caller's among them.

    The caller takes a hand where it would otherwise wait. Who computes a group makes no difference to what comes out.
    """

    def __init__(self, plan: Plan, module: nn.Module, layout: Layout, strategy: Strategy) -> None:
        self.plan, self.strategy = plan, strategy
        tapes = Tapes()
        self._make: Callable[[], Computer] = lambda: _computer(plan, copy.deepcopy(module), layout, strategy, tapes)
        self._late = strategy.way == "batched" and plan.task.in_tensors
        self._own = threading.local()
        self.waiting: deque[_Group] = deque()
        others = strategy.threads - 1
        self._pool = (
            ThreadPoolExecutor(others, "unstale-gradients", initializer=torch.set_num_threads, initargs=(1,))
            if others
            else None
        )

    def submit(self, tickets: Sequence[Ticket]) -> list[Pending]:
        """Start on a group. Batches that may take random numbers are read here, one after the other, each its own."""
        jobs = [Job(ticket, None) if self._late else job(self.plan, ticket) for ticket in tickets]
        group = _Group(self, jobs)
        if self._pool is None:
            group.run()
        else:
            while self.waiting and self.waiting[0].begun:
                self.waiting.popleft()
            self.waiting.append(group)
            self._pool.submit(group.run)
        return [Pending(group, place) for place in range(len(jobs))]

    def close(self) -> None:
        """End the threads, when they are done with what they are at."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def event(self) -> torch.cuda.Event | None:
        """When points and batches will be there, for the streams of other threads; None where there are none."""
        if self._pool is None or not self.plan.device.startswith("cuda"):
            return None
        event = torch.cuda.Event()
        event.record()
        return event

    def compute(self, jobs: Sequence[Job], ready: torch.cuda.Event | None = None) -> list[Computed]:
        """In the calling thread, on a stream of its own if there is something to be ``ready``."""
        if ready is None:
            return self._computer().compute(jobs)
        caller = torch.cuda.default_stream(self.plan.device)
        with torch.cuda.stream(self._stream()):
            torch.cuda.current_stream().wait_event(ready)
            done = self._computer().compute(jobs)
            torch.cuda.current_stream().synchronize()
            for one in done:
                one.gradient.record_stream(caller)
                for value in one.buffers.values():
                    value.record_stream(caller)
            return done

    def _computer(self) -> Computer:
        computer: Computer | None = getattr(self._own, "computer", None)
        if computer is None:
            computer = self._own.computer = self._make()
        return computer

    def _stream(self) -> torch.cuda.Stream:
        stream: torch.cuda.Stream | None = getattr(self._own, "stream", None)
        if stream is None:
            stream = self._own.stream = torch.cuda.Stream(self.plan.device)
        return stream


class _Group:
    """Some jobs. Whoever comes first computes them."""

    def __init__(self, crew: Crew, jobs: Sequence[Job]) -> None:
        self._crew, self._jobs = crew, jobs
        self._ready = crew.event()
        self._mine = threading.Lock()
        self._done: Future[list[Computed]] = Future()

    def run(self) -> None:
        """Compute them, unless somebody has begun."""
        if self._mine.acquire(blocking=False):
            jobs, self._jobs = self._jobs, ()
            try:
                self._done.set_result(self._crew.compute(jobs, self._ready))
            except BaseException as error:
                self._done.set_exception(error)

    @property
    def begun(self) -> bool:
        """Whether somebody is at it, or was."""
        return self._mine.locked()

    def result(self) -> list[Computed]:
        """What they give. Until it is there, groups that nobody has begun are computed here."""
        while not self._done.done() and self._crew.waiting:
            self._crew.waiting.popleft().run()
        return self._done.result()


def _computer(plan: Plan, module: nn.Module, layout: Layout, strategy: Strategy, tapes: Tapes) -> Computer:
    if strategy.way == "batched":
        return Batched(plan, module, layout, strategy, tapes)
    return OneByOne(plan, module, layout, keep=strategy.threads > 1, compiled=strategy.compiled)
