"""Several tickets at once: the forward pass mapped over their points, one backward pass for all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from unstale.buffers import over_lanes
from unstale.engines.gradients.base import Computed, Job
from unstale.engines.gradients.lanes import Lanes
from unstale.engines.gradients.one_by_one import OneByOne
from unstale.engines.gradients.precision import precision
from unstale.engines.gradients.strategy import Strategy
from unstale.errors import ArgumentError
from unstale.flat import Layout, split
from unstale.nested import stacked

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Batched"]


class Batched:
    """Tickets as lanes of one computation. Nothing in it looks across lanes.

    A batch of another size than the plan's, an epoch's last one, is computed by itself. Compiled, it is for
    exactly ``lanes`` lanes; where fewer come, the last is repeated.
    """

    def __init__(self, plan: Plan, module: nn.Module, layout: Layout, strategy: Strategy) -> None:
        if plan.task.streams is not None:
            raise ArgumentError("its streams have a memory, which is carried from ticket to ticket one by one")
        self.plan, self.layout, self.lanes = plan, layout, strategy.lanes
        self._alone = OneByOne(plan, module, layout, keep=True)
        self._module = module
        self._points = torch.empty(self.lanes, layout.size, dtype=plan.dtype, device=plan.device)
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
            torch.stack([job.ticket.params for job in padded], out=points)
            buffers = over_lanes([job.ticket.buffers for job in padded])
        batch = stacked([job.batch for job in padded])
        if self._compiled is None:
            losses, gradients = self._gradients(points, buffers, batch)
        else:
            losses, gradients, buffers = self._compiled(points, buffers, batch)
        for lane, loss in enumerate(losses.tolist()[: len(jobs)]):
            yield Computed(loss, gradients[lane], _Lane(buffers, lane))

    def _gradients(self, points: Tensor, buffers: dict[str, Tensor], batch: Any) -> tuple[Tensor, Tensor]:
        """(L,) losses and (L, d) gradients; ``buffers`` are left as the forward passes leave them."""
        lanes = len(points)
        leaves = [
            points[:, layer.start : layer.stop].view(lanes, *layer.shape).detach().requires_grad_()
            for layer in self.layout.layers
        ]
        named = dict(zip((layer.name for layer in self.layout.layers), leaves, strict=True))
        with torch.enable_grad(), Lanes():
            losses = vmap(self._lane, randomness="error")(named, buffers, batch)
            # Lanes do not meet, so the gradient of the sum is each lane's own.
            found = torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        gradients = torch.empty_like(points)
        with torch.no_grad():
            for layer, value in zip(self.layout.layers, found, strict=True):
                target = gradients[:, layer.start : layer.stop]
                target.zero_() if value is None else target.view(lanes, *layer.shape).copy_(value)
        return losses.detach(), gradients

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


class _Lane(Mapping[str, Tensor]):
    """One lane's buffers, taken apart when they are asked for."""

    def __init__(self, buffers: Mapping[str, Tensor], lane: int) -> None:
        self._buffers, self._number = buffers, lane

    def __getitem__(self, name: str) -> Tensor:
        return self._buffers[name][self._number]

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)
