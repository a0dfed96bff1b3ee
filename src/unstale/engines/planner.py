"""Which outstanding gradients to compute next, and together.

Between its pull and its push a gradient depends on nothing but its ticket, so it may be computed at any time between.
The planner decides by the order of events alone, never by how long something took: what is computed together repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from unstale.engines.gradients import Computed, Crew
from unstale.tickets import Ticket

__all__ = ["Planner"]

Soonest = Callable[[int], Sequence[Ticket]]
"""How many → the tickets without a gradient that will be pushed soonest, in order."""


class Planner:
    """Keeps a crew busy with the tickets that are needed soonest."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._pending: dict[int, Callable[[], Computed]] = {}
        threads = crew.strategy.threads
        # With threads of its own, the crew has a group more in hand than it can work on, while this one commits.
        self._ahead = (threads + 1) * crew.strategy.lanes if threads > 1 else 0

    def has(self, ticket: Ticket) -> bool:
        """Whether it is being computed, or there."""
        return ticket.number in self._pending

    def gradient(self, ticket: Ticket, outstanding: int, soonest: Soonest) -> Computed:
        """The gradient of the next ticket in order, ``outstanding`` of which are out; starts on others, too."""
        if not self.has(ticket):
            self._start(soonest(self._crew.strategy.lanes))
        lanes = self._crew.strategy.lanes
        while len(self._pending) < self._ahead and outstanding - len(self._pending) >= lanes:
            self._start(soonest(lanes))
        return self._pending.pop(ticket.number)()

    def forget(self, ticket: Ticket) -> None:
        """It was cancelled."""
        self._pending.pop(ticket.number, None)

    def close(self) -> None:
        """Nothing more will be asked."""
        self._pending.clear()
        self._crew.close()

    def _start(self, tickets: Sequence[Ticket]) -> None:
        for ticket, pending in zip(tickets, self._crew.submit(tickets), strict=True):
            self._pending[ticket.number] = pending.result

    def state_dict(self) -> dict[str, Any]:
        """The gradients that are there before they are needed: what is computed together decides their last bits."""
        found = {str(number): result() for number, result in self._pending.items()}
        return {
            number: {
                "loss": one.loss,
                "gradient": one.gradient.clone(),
                "buffers": {name: value.clone() for name, value in one.buffers.items()},
                "memory": [part.clone() for part in one.memory],
            }
            for number, one in found.items()
        }

    def load_state_dict(self, state: Mapping[str, Any], device: str) -> None:
        """Go on from there."""
        for number, one in state.items():
            buffers = {name: value.to(device) for name, value in one["buffers"].items()}
            memory = tuple(part.to(device) for part in one["memory"])
            computed = Computed(one["loss"], one["gradient"].to(device), buffers, memory)
            self._pending[int(number)] = partial(_there, computed)


def _there(computed: Computed) -> Computed:
    return computed
