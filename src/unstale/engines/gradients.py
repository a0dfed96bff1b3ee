"""Ways to compute outstanding gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unstale.flat import FlatModule, Layout
from unstale.nested import converted
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Computed", "OneByOne", "one_thread"]


@dataclass(frozen=True)
class Computed:
    """A gradient, (d,), its loss, and the buffers as the forward pass left them; valid until the next."""

    loss: float
    gradient: Tensor
    buffers: Mapping[str, Tensor]


class OneByOne:
    """The reference: one gradient after the other, on one thread.

    A gradient depends on its ticket alone: random numbers in the forward pass and in the data set are torch's, seeded
    for each ticket from (seed, batch).
    """

    def __init__(self, plan: Plan, module: nn.Module, layout: Layout) -> None:
        self.plan = plan
        # Not train() on a module that is training: it would wake parts that the user froze.
        self._flat = FlatModule(module if module.training else module.train(), layout)
        self._buffers = dict(module.named_buffers())

    def compute(self, ticket: Ticket) -> Computed:
        """The gradient that ``ticket`` asks for."""
        self._flat.load(ticket.params)
        with torch.no_grad():
            for name, value in ticket.buffers.items():
                self._buffers[name].copy_(value)
        seed_torch(self.plan.seed, ticket.batch)
        batch = self.plan.task.batch(self.plan.batches.indices(ticket.batch), self.plan.device)
        with torch.enable_grad():
            loss = self.plan.task.loss_of(self._flat.module, converted(batch, self.plan.dtype))
            loss.backward()
        return Computed(float(loss.detach()), self._flat.grad, self._buffers)


def seed_torch(seed: int, batch: int) -> None:
    """Give torch's generators the random numbers of one ticket."""
    # A hash, for it is many times cheaper than numpy's SeedSequence, and this runs with every gradient.
    word = int.from_bytes(hashlib.blake2b(f"forward {seed} {batch}".encode(), digest_size=8).digest(), "little") >> 1
    torch.default_generator.manual_seed(word)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(word)


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, torch's random state borrowed, and tensors that gradients can flow through; then as before."""
    threads = torch.get_num_threads()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
