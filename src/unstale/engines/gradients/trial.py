"""Strategies tried on a run's first tickets: whether they give the reference's gradients, and how long they take."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unstale.engines.gradients.base import Computed
from unstale.engines.gradients.crew import Crew
from unstale.engines.gradients.one_by_one import OneByOne, job
from unstale.engines.gradients.strategy import Strategy
from unstale.flat import Layout
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Trial"]

GLANCE = 0.15  # seconds for one strategy, if one try takes no longer


class Trial:
    """The first tickets of a run, on which strategies are tried."""

    def __init__(self, plan: Plan, module: nn.Module, layout: Layout, tickets: Sequence[Ticket]) -> None:
        self.plan, self.module, self.layout, self.tickets = plan, module, layout, tickets
        self._reference: list[Computed] | None = None
        self._crews: dict[Strategy, Crew] = {}
        self._random = False

    def objection(self, candidate: Strategy) -> str:
        """Why a strategy cannot be used for this model; empty if it can: then it gives the reference's gradients."""
        wanted = self._wanted()
        if self._random:
            return "its forward pass draws random numbers"
        try:
            # What is written down the first time is repeated after that: on other tickets, and looked at then.
            found = [self._group(candidate, turn) for turn in (1, 1, 0)][-1][: len(wanted)]
        except Exception as error:  # whatever torch's transforms or compiler may raise
            return (str(error).splitlines() or [type(error).__name__])[0][:120]
        loose = 1e-3 if self.plan.dtype == torch.float32 and self.plan.precision == "full" else 3e-2
        bound = 1e-8 if self.plan.dtype == torch.float64 else loose
        for one, other in zip(wanted, found, strict=True):
            if not _close(one.gradient, other.gradient, bound, 1e-30):
                return "its gradients then depend on more than their tickets"
            if not all(_close(value, other.buffers[name], bound, 1e-6) for name, value in one.buffers.items()):
                return "its buffers then depend on more than their tickets"
        return ""

    def seconds(self, candidate: Strategy) -> float:
        """Wall time of a gradient: the least of a few tries, of one where that takes long."""
        least, began = math.inf, time.perf_counter()
        while time.perf_counter() < began + GLANCE:
            start = time.perf_counter()
            count = len(self._group(candidate))
            least = min(least, (time.perf_counter() - start) / count)
        return least

    def _wanted(self) -> list[Computed]:
        """What the reference gives for the first two; notes on the way whether it draws random numbers."""
        if self._reference is None:
            alone = OneByOne(self.plan, copy.deepcopy(self.module), self.layout, keep=True)
            generator = torch.default_generator
            self._reference = []
            for ticket in self.tickets[:2]:
                given = job(self.plan, ticket)
                before = generator.get_state()
                self._reference += alone.compute([given])
                self._random = self._random or not torch.equal(before, generator.get_state())
        return self._reference

    def close(self) -> None:
        """End the threads that were tried."""
        for crew in self._crews.values():
            crew.close()
        self._crews.clear()

    def _group(self, candidate: Strategy, turn: int = 0) -> list[Computed]:
        crew = self._crews.get(candidate)
        if crew is None:
            crew = self._crews[candidate] = Crew(self.plan, self.module, self.layout, candidate)
        chosen = self.tickets[: max(candidate.width, 1)]
        chosen = [*chosen[turn:], *chosen[:turn]]
        groups = [chosen[k : k + candidate.lanes] for k in range(0, len(chosen), candidate.lanes)]
        pending = [p for group in groups for p in crew.submit(group)]
        return [p.result() for p in pending]


def _close(one: Tensor, other: Tensor, relative: float, absolute: float) -> bool:
    distance, size = float((one - other).double().norm()), float(one.double().norm())
    return distance <= relative * size + absolute
