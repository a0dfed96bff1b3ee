"""Gradient clipping at the worker: the raw gradient, before it is pushed.

A setting of the training, like the batch size, and no slot of a method: every method and every way of computing
gradients is given the same clipped ones.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from unstale.engines.gradients import Computed

__all__ = ["clipped"]


def clipped(computed: Computed, limit: float | None) -> Computed:
    """``computed`` with its gradient g times min(1, limit/(‖g‖₂ + 1e-6)), as `torch.nn.utils.clip_grad_norm_` has it.

    The norm is over all d elements, without weight decay, which is the server's. NaN and Inf stay what they are to
    the server: not finite. None does not clip.
    """
    if limit is None:
        return computed
    gradient = computed.gradient
    # In float32 at least: a sum of squares soon leaves half precision.
    norm = torch.linalg.vector_norm(gradient, dtype=torch.promote_types(gradient.dtype, torch.float32))
    return replace(computed, gradient=gradient * (limit / (norm + 1e-6)).clamp(max=1.0))
