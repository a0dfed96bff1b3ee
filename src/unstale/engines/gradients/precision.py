"""Less exact arithmetic, for those who ask for it: bfloat16 in forward passes, TF32 in CUDA's matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["MemoryFormat", "Precision", "precision", "tensor_cores"]

Precision = Literal["full", "bf16", "tf32"]
MemoryFormat = Literal["contiguous", "channels_last"]


@contextmanager
def precision(plan: Plan) -> Iterator[None]:
    """Around a forward pass."""
    if plan.precision != "bf16":
        yield
        return
    with torch.autocast(torch.device(plan.device).type, dtype=torch.bfloat16):
        yield


@contextmanager
def tensor_cores(plan: Plan) -> Iterator[None]:
    """Around a run: TF32 as it was asked for, and afterwards as before."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32" if plan.precision == "tf32" else "ieee"
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
