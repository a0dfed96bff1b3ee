"""Several tickets at once: the forward pass mapped over their points, one backward pass for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from unstale.buffers import over_lanes
from unstale.engines.gradients.base import Computed, Job
from unstale.engines.gradients.captured import cuda_graph
from unstale.engines.gradients.lanes import Lanes
from unstale.engines.gradients.one_by_one import OneByOne
from unstale.engines.gradients.precision import precision
from unstale.engines.gradients.strategy import Strategy
from unstale.engines.gradients.tape import Taped, Tapes
from unstale.errors import ArgumentError
from unstale.flat import Layout, split
from unstale.nested import converted, stacked

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Batched"]


class Batched:
    """Tickets as lanes of one computation. Nothing in it looks across lanes.

    A batch of another size than the plan's, an epoch's last one, is computed by itself. Compiled, it is for
    exactly ``lanes`` lanes; where fewer come, the last is repeated.
    """

    def __init__(
        self, plan: Plan, module: nn.Module, layout: Layout, strategy: Strategy, tapes: Tapes | None = None
    ) -> None:
        if plan.task.streams is not None:
            raise ArgumentError("its streams have a memory, which is carried from ticket to ticket one by one")
        self.plan, self.layout, self.lanes = plan, layout, strategy.lanes
        self._alone = OneByOne(plan, module, layout, keep=True)
        self._module = module
        # Rows begin at multiples of 64 bytes, where vector instructions like to begin.
        self._points = self._rows()
        self._taped = Taped(self._mapped, cuda_graph if strategy.graphs else None, changes=(1,), tapes=tapes)
        self._compiled = torch.compile(self._pure, dynamic=False, fullgraph=True) if strategy.compiled else None

    def compute(self, jobs: Sequence[Job]) -> list[Computed]:
        """See `Computer`."""
        done: dict[int, Computed] = {}
        usual = [job for job in jobs if self.plan.batches.is_full(job.ticket.batch)]
        for job in jobs:
            if job not in usual:
                done[job.ticket.number] = self._alone.compute([job])[0]
        if len(usual) == 1 and self._compiled is None:
            done[usual[0].ticket.number] = self._alone.compute(usual)[0]
        elif usual:
            done |= zip((job.ticket.number for job in usual), self._together(usual), strict=True)
        return [done[job.ticket.number] for job in jobs]

    def _together(self, jobs: Sequence[Job]) -> Iterator[Computed]:
        padded = jobs if self._compiled is None else [*jobs, *[jobs[-1]] * (self.lanes - len(jobs))]
        points = self._points[: len(padded)]
        with torch.no_grad():
            for row, job in zip(points, padded, strict=True):
                row.copy_(job.ticket.params)
            buffers = over_lanes([job.ticket.buffers for job in padded])
            batch = self._batch(padded)
        if self._compiled is None:
            losses, gradients = self._gradients(points, buffers, batch)
        else:
            losses, gradients, buffers = self._compiled(points, buffers, batch)
        parts = {name: value.unbind() for name, value in buffers.items()}
        for lane, loss in enumerate(losses.tolist()[: len(jobs)]):
            yield Computed(loss, gradients[lane], {name: part[lane] for name, part in parts.items()})

    def _batch(self, jobs: Sequence[Job]) -> Any:
        read = [job.batch for job in jobs if job.batch is not None]
        if read:
            return stacked(read)
        indices = np.stack([self.plan.batches.indices(job.ticket.batch) for job in jobs])
        return converted(self.plan.task.together(indices, self.plan.device), self.plan.dtype)

    def _gradients(self, points: Tensor, buffers: dict[str, Tensor], batch: Any) -> tuple[Tensor, Tensor]:
        """(L,) losses and (L, d) gradients; ``buffers`` are left as the forward passes leave them."""
        gradients = self._rows()[: len(points)]
        places = [gradients[:, layer.start : layer.stop].unflatten(1, layer.shape) for layer in self.layout.layers]
        (losses,) = self._taped(points, buffers, batch, places=places)
        return losses, gradients

    def _mapped(self, points: Tensor, buffers: dict[str, Tensor], batch: Any) -> list[Tensor]:
        """(L,) losses, and each layer's gradients, (L, …)."""
        leaves = [
            points[:, layer.start : layer.stop].unflatten(1, layer.shape).detach().requires_grad_()
            for layer in self.layout.layers
        ]
        named = dict(zip((layer.name for layer in self.layout.layers), leaves, strict=True))
        with torch.enable_grad(), Lanes():
            losses = vmap(self._lane, randomness="error")(named, buffers, batch)
            # Lanes do not meet, so the gradient of the sum is each lane's own.
            found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True, materialize_grads=True)
        return [losses.detach(), *found]

    def _pure(self, points: Tensor, buffers: dict[str, Tensor], batch: Any) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The same as one function without effects, as a compiler takes it; and the buffers."""

        def lane(point: Tensor, buffers: dict[str, Tensor], batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
            return self._lane(split(point, self.layout), buffers, batch), buffers

        gradients, (losses, left) = vmap(grad_and_value(lane, has_aux=True), randomness="error")(points, buffers, batch)
        return losses, gradients, left

    def _lane(self, params: dict[str, Tensor], buffers: dict[str, Tensor], batch: Any) -> Tensor:
        def model(*args: Any, **named: Any) -> Any:
            return functional_call(self._module, (params, buffers), args, named)

        with precision(self.plan):
            return self.plan.task.loss_of(model, batch)

    def _rows(self) -> Tensor:
        """(lanes, d), uninitialised."""
        size = -(-self.layout.size // 16) * 16
        rows = torch.empty(self.lanes, size, dtype=self.plan.dtype, device=self.plan.device)
        return rows[:, : self.layout.size]
