"""What every way of computing gradients gets and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from unstale.measure import Receipt
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.server import Server

__all__ = ["Computed", "Computer", "Job", "hand_in"]


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


def hand_in(
    server: Server, ticket: Ticket, computed: Computed, lr: float | None = None, *, pull: bool
) -> tuple[Receipt, Ticket | None]:
    """Push what was computed for a ticket; with ``pull``, an exchange. Raises as `Server.push`."""
    about: dict[str, Any] = {"lr": lr, "buffers": computed.buffers, "memory": computed.memory}
    if pull:
        return server.exchange(ticket, computed.gradient, **about)
    return server.push(ticket, computed.gradient, **about), None


class Computer(Protocol):
    """Computes the gradients of a few tickets. Belongs to one thread."""

    def compute(self, jobs: Sequence[Job]) -> list[Computed]:
        """In the order of ``jobs``; each depends on its own job alone."""
