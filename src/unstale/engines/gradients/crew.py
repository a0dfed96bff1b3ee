"""Threads that compute gradients, while the one that commits them goes on."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from unstale.engines.gradients.base import Computed, Computer, Job
from unstale.engines.gradients.batched import Batched
from unstale.engines.gradients.one_by_one import OneByOne, job
from unstale.engines.gradients.strategy import Strategy
from unstale.flat import Layout
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Crew", "Pending"]


@dataclass(frozen=True)
class Pending:
    """A gradient that is being computed, or is there: its place in what a group gives."""

    group: Callable[[], list[Computed]]
    place: int

    def result(self) -> Computed:
        """Waits for it."""
        return self.group()[self.place]


class Crew:
    """Computes groups of tickets by one strategy. With one thread, that of the caller; else in threads of its own."""

    def __init__(self, plan: Plan, module: nn.Module, layout: Layout, strategy: Strategy) -> None:
        self.plan, self.strategy = plan, strategy
        self._make: Callable[[], Computer] = lambda: _computer(plan, copy.deepcopy(module), layout, strategy)
        self._late = strategy.way == "batched" and plan.task.in_tensors
        self._own = threading.local()
        self._pool = (
            ThreadPoolExecutor(strategy.threads, "unstale-gradients", initializer=torch.set_num_threads, initargs=(1,))
            if strategy.threads > 1
            else None
        )

    def submit(self, tickets: Sequence[Ticket]) -> list[Pending]:
        """Start on a group. Batches that may take random numbers are read here, one after the other, each its own."""
        jobs = [Job(ticket, None) if self._late else job(self.plan, ticket) for ticket in tickets]
        group = self._compute(jobs) if self._pool is None else self._pool.submit(self._in_thread, jobs)
        answer = group.result if isinstance(group, Future) else lambda: group
        return [Pending(answer, place) for place in range(len(jobs))]

    def close(self) -> None:
        """End the threads, when they are done with what they are at."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _in_thread(self, jobs: Sequence[Job]) -> list[Computed]:
        if self.plan.device.startswith("cuda"):
            with torch.cuda.stream(self._stream()):
                done = self._compute(jobs)
                torch.cuda.current_stream().synchronize()
                return done
        return self._compute(jobs)

    def _compute(self, jobs: Sequence[Job]) -> list[Computed]:
        computer: Computer | None = getattr(self._own, "computer", None)
        if computer is None:
            computer = self._own.computer = self._make()
        return computer.compute(jobs)

    def _stream(self) -> torch.cuda.Stream:
        stream: torch.cuda.Stream | None = getattr(self._own, "stream", None)
        if stream is None:
            stream = self._own.stream = torch.cuda.Stream(self.plan.device)
        return stream


def _computer(plan: Plan, module: nn.Module, layout: Layout, strategy: Strategy) -> Computer:
    if strategy.way == "batched":
        return Batched(plan, module, layout, strategy)
    return OneByOne(plan, module, layout, keep=strategy.threads > 1, compiled=strategy.compiled)
