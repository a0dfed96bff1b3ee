"""A server driven push by push with hand-made gradients: what the contracts are written in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unstale.measure import Receipt
from unstale.methods import Method
from unstale.server import Server
from unstale.tickets import Ticket

__all__ = ["Arrival", "Drive", "Subject", "round_robin", "smooth", "start", "uneven"]


@dataclass(frozen=True)
class Subject:
    """What a contract is about: a method, on a server."""

    method: Method
    server: type[Server] = Server

    def serve(self, params: Tensor, workers: int, **options: Any) -> Server:
        """A server of this kind, running this method."""
        return self.server(params.clone(), self.method, workers, **options)


@dataclass(frozen=True)
class Arrival:
    """One push as the contracts see it. All tensors are copies."""

    receipt: Receipt
    sent: Tensor
    before: Tensor
    after: Tensor


def start(size: int = 6, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """(size,) parameters to start from."""
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def smooth(seed: int = 1) -> Callable[[Tensor, int], Tensor]:
    """Gradients of a quadratic with its optimum elsewhere, and a little noise for each push: (point, push) → (d,)."""

    def gradient(point: Tensor, push: int) -> Tensor:
        source = torch.Generator().manual_seed(1000 * seed + push)
        curvature = torch.linspace(0.5, 2.0, point.numel(), dtype=torch.float64)
        noise = 0.1 * torch.randn(point.numel(), generator=source, dtype=torch.float64)
        return (0.2 * curvature * (point.double() - 1.0) + noise).to(point.dtype)

    return gradient


def round_robin(workers: int) -> Iterator[int]:
    """0, 1, …, N − 1, 0, 1, …"""
    return itertools.cycle(range(workers))


def uneven(workers: int, seed: int = 5) -> Iterator[int]:
    """Workers in a fixed random order, so that delays differ; worker 0 comes twice as often."""
    source = torch.Generator().manual_seed(seed)
    while True:
        yield max(0, int(torch.randint(-1, workers, (1,), generator=source)))


class Drive:
    """Keeps every worker of a server busy and pushes in a given order. A worker that has to wait is passed over."""

    def __init__(self, server: Server, gradient: Callable[[Tensor, int], Tensor]) -> None:
        self.server = server
        self.gradient = gradient
        self.pushes = 0
        self.tickets: dict[int, Ticket | None] = {worker: server.pull(worker) for worker in server.workers}

    def push(self, worker: int, lr: float, *, look: bool = True) -> Arrival | None:
        """The next push of ``worker``, and its next pull; None if it waits."""
        ticket = self.tickets[worker]
        if ticket is None:
            return None
        sent = ticket.params.clone()
        gradient = self.gradient(sent, self.pushes)
        before = self.server.params if look else sent
        receipt, self.tickets[worker] = self.server.exchange(ticket, gradient, lr=lr)
        self.pushes += 1
        for other in (*receipt.released, *receipt.cancelled):
            self.tickets[other] = self.server.pull(other)
        return Arrival(receipt, sent, before, self.server.params if look else sent)

    def run(
        self, order: Iterable[int], pushes: int, lr: float | Callable[[int], float] = 0.05, *, look: bool = True
    ) -> list[Arrival]:
        """So many pushes, η as given or by number of push."""
        rates = lr if callable(lr) else lambda push: lr
        done: list[Arrival] = []
        passed = 0
        for worker in order:
            if len(done) == pushes:
                break
            arrival = self.push(worker, rates(len(done)), look=look)
            passed = 0 if arrival else passed + 1
            assert passed < 1000, "deadlock: every worker waits"
            if arrival:
                done.append(arrival)
        return done
