"""Tensors as arrays, which Ray moves through its object store as they lie in memory, and back without a copy.

What comes out of the object store is shared with others and read-only. A tensor over it must never be written to:
the processor would end the process.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

__all__ = ["Boxed", "boxed", "opened"]


class Boxed(NamedTuple):
    """A tensor on its way: its bytes, for numpy knows no bfloat16, its dtype and its shape."""

    content: np.ndarray[Any, np.dtype[np.uint8]]
    dtype: torch.dtype
    shape: tuple[int, ...]


def boxed(tensor: Tensor) -> Boxed:
    """On the CPU, the same memory; from elsewhere, a copy."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return Boxed(flat.view(torch.uint8).numpy(), tensor.dtype, tuple(tensor.shape))


def opened(box: Boxed, device: str = "cpu") -> Tensor:
    """The same memory, to be read only, as long as the tensor lives; a copy on another device."""
    if not box.content.size:
        return torch.empty(box.shape, dtype=box.dtype, device=device)
    # torch takes arrays that cannot be written to with a warning only, so it is given the memory itself.
    memory = (ctypes.c_byte * box.content.nbytes).from_address(box.content.ctypes.data)
    memory.owner = box.content  # type: ignore[attr-defined]
    return torch.frombuffer(memory, dtype=box.dtype).view(box.shape).to(device)
