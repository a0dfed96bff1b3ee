"""What every way of computing gradients gets and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from unstale.tickets import Ticket

__all__ = ["Computed", "Computer", "Job"]


@dataclass(frozen=True)
class Job:
    """One gradient to be computed: a ticket, and its batch as the model takes it; None where the computer reads it."""

    ticket: Ticket
    batch: tuple[Any, Any] | None


@dataclass(frozen=True)
class Computed:
    """A gradient, (d,), its loss, and the buffers and the stream's memory as the forward pass left them."""

    loss: float
    gradient: Tensor
    buffers: Mapping[str, Tensor]
    memory: tuple[Tensor, ...] = ()


class Computer(Protocol):
    """Computes the gradients of a few tickets. Belongs to one thread."""

    def compute(self, jobs: Sequence[Job]) -> list[Computed]:
        """In the order of ``jobs``; each depends on its own job alone."""
