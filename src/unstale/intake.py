"""What comes in is looked at before anything changes: parameters at the start, a gradient with each push."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unstale import flat
from unstale.errors import ArgumentError, GradientError
from unstale.flat import Group, Layout
from unstale.memory import Memory
from unstale.tickets import Ticket

__all__ = ["flatten", "is_finite", "taken", "ticket", "unchanged"]


def flatten(params: Tensor | nn.Module, groups: Sequence[Group], weight_decay: float) -> tuple[Layout, Tensor]:
    """A model's layout and its (d,) parameters."""
    if isinstance(params, nn.Module):
        layout = Layout.of_module(params, groups, weight_decay)
        vector = flat.parameters(params, layout)
    elif isinstance(params, Tensor):
        if params.ndim != 1 or not params.numel():
            raise ArgumentError(
                f"params must be a module or a vector of shape (d,), got shape {tuple(params.shape)}; flatten it"
            )
        vector = params.detach()
        layout = Layout.of_vector(vector.numel(), groups, weight_decay)
    else:
        raise ArgumentError(f"params must be a module or a (d,) tensor, got {type(params).__name__}")
    if not vector.is_floating_point():
        raise ArgumentError(f"params must be of a floating-point dtype, got {vector.dtype}; convert with .float()")
    return layout, vector


def taken(
    gradient: Tensor | nn.Module, buffers: Mapping[str, Tensor] | None, layout: Layout, memory: Memory
) -> tuple[Tensor, Mapping[str, Tensor] | None]:
    """A pushed gradient, (d,), and the buffers that came with it. Raises `GradientError` if it does not fit."""
    if isinstance(gradient, nn.Module):
        module = gradient
        gradient = flat.gradient(module, layout)
        buffers = dict(module.named_buffers()) if buffers is None else buffers
    if not isinstance(gradient, Tensor):
        raise GradientError(f"gradient must be a tensor or a module, got {type(gradient).__name__}")
    if gradient.shape != (layout.size,):
        raise GradientError(
            f"gradient must have shape ({layout.size},) like the parameters, got {tuple(gradient.shape)}"
        )
    dtype, device = memory.dtype, memory.theta.device
    if gradient.dtype != dtype:
        raise GradientError(
            f"gradient must be of dtype {dtype} like the parameters, got {gradient.dtype}; use .to({dtype})"
        )
    if gradient.device != device:
        raise GradientError(
            f"gradient must be on {device} like the parameters, got {gradient.device}; use .to('{device}')"
        )
    return gradient.detach().contiguous(), buffers


def is_finite(gradient: Tensor) -> bool:
    """Whether no element is NaN or Inf."""
    # One pass; a sum that overflows is looked at again.
    return math.isfinite(float(gradient.sum())) or bool(torch.isfinite(gradient).all())


def ticket(ticket: object) -> None:
    """Refuse what is no ticket."""
    if not isinstance(ticket, Ticket):
        raise ArgumentError(f"ticket must be a Ticket from pull() or exchange(), got {type(ticket).__name__}")


def unchanged(ticket: Ticket, memory: Memory) -> None:
    """Refuse a ticket whose point was written over: the gap would be measured from the wrong place."""
    if memory.keep_points and ticket.params._version != ticket.written:
        raise ArgumentError("ticket.params must not be changed in place, but it was; change a clone of it")
