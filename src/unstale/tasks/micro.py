"""A batch that is too large for the memory, in chunks one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from unstale.errors import ArgumentError
from unstale.nested import sliced

__all__ = ["in_chunks"]


def in_chunks(loss: Callable[[Any], Tensor], model: object, batch: Any, size: int) -> Tensor:
    """The mean loss over a batch, ``size`` examples at a time: 0-d tensor.

    Where it is to be differentiated, each chunk is, at once, and its activations are let go: what is kept until
    ``backward`` is one gradient. Forward passes are as many as there are chunks, so that BatchNorm normalises within a
    chunk and updates its running statistics once for each.

    Raises: ArgumentError where ``model`` is no module, as when several points are computed at once.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError("micro-batches are for one model at a time; use strategy='sequential'")
    count = len(tree_leaves(batch)[0])
    chunks = [(start, min(start + size, count)) for start in range(0, count, size)]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def share(start: int, stop: int) -> Tensor:
        return loss(sliced(batch, start, stop)) * ((stop - start) / count)

    if not torch.is_grad_enabled():
        return torch.stack([share(*chunk) for chunk in chunks]).sum()
    total: Tensor = _Accumulated.apply(chunks, share, *parameters)  # type: ignore[no-untyped-call]
    return total


class _Accumulated(torch.autograd.Function):
    """Σ share(chunk) of the parameters; its gradient is found on the way forward."""

    @staticmethod
    def forward(
        ctx: Any, chunks: list[tuple[int, int]], share: Callable[[int, int], Tensor], *parameters: Tensor
    ) -> Tensor:
        totals = [torch.zeros_like(parameter) for parameter in parameters]
        losses = []
        for chunk in chunks:
            with torch.enable_grad():
                loss = share(*chunk)
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            losses.append(loss.detach())
            for total, gradient in zip(totals, gradients, strict=True):
                if gradient is not None:
                    total += gradient
        ctx.save_for_backward(*totals)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> Any:
        return None, None, *(above * total for total in ctx.saved_tensors)
