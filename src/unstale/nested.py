"""Batches are tensors in tuples, lists and dicts; a change of all of them goes through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

__all__ = ["converted", "laid_out", "moved", "sliced", "stacked"]


def moved(value: Any, device: torch.device | str) -> Any:
    """Everything that can move, on ``device``."""
    return _each(value, lambda leaf: leaf.to(device))


def converted(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in ``dtype``, the rest as it is."""

    def convert(leaf: Any) -> Any:
        data = getattr(leaf, "data", None)
        return leaf.to(dtype) if isinstance(data, Tensor) and data.is_floating_point() else leaf

    return _each(value, convert)


def laid_out(value: Any, memory_format: str) -> Any:
    """Pictures, (B, C, H, W), in that memory format; the rest as it is."""
    if memory_format == "contiguous":
        return value
    return _each(value, lambda leaf: leaf.contiguous(memory_format=torch.channels_last) if leaf.ndim == 4 else leaf)


def sliced(value: Any, start: int, stop: int) -> Any:
    """Examples ``start`` to ``stop`` of everything that has a leading dimension."""
    return _each(value, lambda leaf: leaf[start:stop])


def stacked(values: Sequence[Any]) -> Any:
    """Values of one structure as one whose tensors have a leading dimension more."""
    leaves, structure = zip(*(tree_flatten(value) for value in values), strict=True)
    return tree_unflatten([torch.stack(parts) for parts in zip(*leaves, strict=True)], structure[0])


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    # Leaves first: torch's packed sequences are tuples, and know how to convert themselves.
    if hasattr(value, "to"):
        return change(value)
    if isinstance(value, tuple | list):
        parts = [_each(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, Mapping):
        return {key: _each(part, change) for key, part in value.items()}
    return value
