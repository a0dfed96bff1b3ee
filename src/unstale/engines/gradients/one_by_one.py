"""One gradient after the other, by autograd: the reference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unstale.engines.gradients.base import Computed, Job
from unstale.engines.gradients.precision import precision
from unstale.flat import FlatModule, Layout
from unstale.nested import converted, laid_out
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["OneByOne", "job", "one_thread", "read", "seed_torch"]


class OneByOne:
    """The reference: one gradient after the other.

    A gradient depends on its ticket alone: random numbers in the forward pass and in the data set are torch's, seeded
    for each ticket from (seed, batch). With ``keep``, a gradient stays valid after the next one; else it does not.
    ``shared``: where the module's parameters and gradient are to lie, (d,) each.
    """

    def __init__(
        self,
        plan: Plan,
        module: nn.Module,
        layout: Layout,
        *,
        keep: bool = False,
        compiled: bool = False,
        shared: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.plan = plan
        # Not train() on a module that is training: it would wake parts that the user froze.
        self._flat = FlatModule(module if module.training else module.train(), layout, shared)
        self._buffers = dict(module.named_buffers())
        self._keep = keep
        self._model = torch.compile(module, dynamic=False) if compiled else module

    def compute(self, jobs: Sequence[Job]) -> list[Computed]:
        """See `Computer`."""
        return [self._one(job) for job in jobs]

    def _one(self, job: Job) -> Computed:
        batch = read(self.plan, job.ticket) if job.batch is None else job.batch
        self._flat.load(job.ticket.params)
        with torch.no_grad():
            for name, value in job.ticket.buffers.items():
                self._buffers[name].copy_(value)
        with torch.enable_grad(), precision(self.plan):
            loss, memory = self.plan.task.step(self._model, batch, job.ticket.start.memory)
        loss.backward()
        if not self._keep:
            return Computed(float(loss.detach()), self._flat.grad, self._buffers, memory)
        buffers = {name: value.clone() for name, value in self._buffers.items()}
        return Computed(float(loss.detach()), self._flat.grad.clone(), buffers, memory)


def job(plan: Plan, ticket: Ticket) -> Job:
    """A ticket and its batch, read now."""
    return Job(ticket, read(plan, ticket))


def read(plan: Plan, ticket: Ticket) -> tuple[Any, Any]:
    """Read a ticket's batch, with the ticket's random numbers; the forward pass goes on with them."""
    seed_torch(plan.seed, ticket.batch)
    batch = plan.task.batch(plan.batches.indices(ticket.batch), plan.device, (plan.seed, ticket.batch))
    found: tuple[Any, Any] = laid_out(converted(batch, plan.dtype), plan.memory_format)
    return found


def seed_torch(seed: int, batch: int) -> None:
    """Give torch's generators the random numbers of one ticket."""
    # A hash, for it is many times cheaper than numpy's SeedSequence, and this runs with every gradient.
    word = int.from_bytes(hashlib.blake2b(f"forward {seed} {batch}".encode(), digest_size=8).digest(), "little") >> 1
    torch.default_generator.manual_seed(word)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(word)


@contextmanager
def one_thread() -> Iterator[int]:
    """One torch thread, torch's random state borrowed, and tensors that gradients can flow through; then as before.

    Gives the number of threads that torch had, which the caller may make use of.
    """
    threads = torch.get_num_threads()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode(False):
        torch.set_num_threads(1)
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)
