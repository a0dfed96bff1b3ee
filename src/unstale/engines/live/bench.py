"""Where a real worker works, whatever it is: a process, or an actor on another machine."""

from __future__ import annotations

import pickle
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unstale.clocks import Clock
from unstale.engines.base import Plan
from unstale.engines.clipping import clipped
from unstale.engines.gradients.base import Computed, Job
from unstale.engines.gradients.one_by_one import OneByOne
from unstale.engines.gradients.precision import tensor_cores
from unstale.tickets import Start, Ticket

__all__ = ["Bench"]


class Bench:
    """A model of the worker's own, on which it computes the gradients of its tickets, one by one.

    ``plan`` is pickled, as of `packed_plan`; ``pace``: the least time that a gradient takes, in seconds.
    """

    def __init__(
        self, plan: bytes | memoryview, worker: int, device: str, threads: int, pace: Clock | None = None
    ) -> None:
        torch.set_num_threads(threads)
        self.plan: Plan = pickle.loads(plan)
        object.__setattr__(self.plan, "device", device)
        self.module = self.plan.task.build(self.plan.seed).to(device, self.plan.dtype)
        self.worker, self.layout = worker, self.plan.layout(self.module)
        self._tensor_cores = tensor_cores(self.plan)
        self._tensor_cores.__enter__()
        self._pace = None if pace is None else pace.stream(self.plan.seed)
        self._job = 0

    def open(self, shared: tuple[Tensor, Tensor] | None = None) -> None:
        """Before the first gradient. ``shared``: where the parameters and the gradient are to lie, (d,) each."""
        self._computer = OneByOne(self.plan, self.module, self.layout, shared=shared)

    def compute(
        self, numbers: Sequence[int], point: Tensor, buffers: Mapping[str, Tensor], start: Start, got: float
    ) -> tuple[Computed, tuple[float, float, float]]:
        """The gradient, and when its ticket was ``got``, begun and done, by the monotonic clock.

        ``numbers``: of the ticket, its batch, its version and its epoch.
        """
        number, batch, version, epoch = numbers
        ticket = Ticket(
            number=number,
            incarnation="",
            worker=self.worker,
            version=version,
            batch=batch,
            epoch=epoch,
            params=point,
            buffers=buffers,
            layout=self.layout,
            start=start,
        )
        began = time.monotonic()
        computed = clipped(self._computer.compute([Job(ticket, None)])[0], self.plan.clip)
        if self._pace is not None:
            wanted = self._pace.duration(self.worker, self._job)
            self._job += 1
            time.sleep(max(0.0, got + wanted - time.monotonic()))
        return computed, (got, began, time.monotonic())
