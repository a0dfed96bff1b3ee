"""Memory that a server and one worker share: the point, the gradient, and the model's buffers.

It has no name: it is a file that exists only as long as somebody has it open, so nothing is left behind by whoever
dies. Linux only.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from unstale.placing import GRADIENT, POINT, skipped

__all__ = ["Block"]

_ALIGNED = 64  # bytes, as vector instructions like it
_PLACES = {"point": POINT, "gradient": GRADIENT}


class Block:
    """Views of one piece of shared memory: ``point`` and ``gradient``, (d,), and ``buffers`` by name.

    ``descriptor``: of memory that somebody else has made for the same ``size``, ``dtype`` and ``buffers``.
    """

    def __init__(
        self, size: int, dtype: torch.dtype, buffers: Mapping[str, Tensor], descriptor: int | None = None
    ) -> None:
        wanted: dict[str, tuple[torch.dtype, torch.Size]] = {
            "point": (dtype, torch.Size([size])),
            "gradient": (dtype, torch.Size([size])),
            **{f"buffer {name}": (value.dtype, value.shape) for name, value in buffers.items()},
        }
        starts, total = {}, 0
        for name, (kind, shape) in wanted.items():
            total += skipped(total, _PLACES[name]) if name in _PLACES else -total % _ALIGNED
            starts[name] = total
            total += shape.numel() * kind.itemsize
        self.descriptor = _new(total) if descriptor is None else descriptor
        self._memory = mmap.mmap(self.descriptor, total)
        views: dict[str, Any] = {
            name: torch.frombuffer(self._memory, dtype=kind, count=shape.numel(), offset=starts[name]).view(shape)
            if shape.numel()
            else torch.empty(shape, dtype=kind)
            for name, (kind, shape) in wanted.items()
        }
        self.point: Tensor = views["point"]
        self.gradient: Tensor = views["gradient"]
        self.buffers: dict[str, Tensor] = {name: views[f"buffer {name}"] for name in buffers}

    def put(self, point: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Have them there; a point that is there already is not copied."""
        if point.data_ptr() != self.point.data_ptr():
            self.point.copy_(point)
        for name, value in buffers.items():
            self.buffers[name].copy_(value)

    def close(self) -> None:
        """Let go of the file; the memory goes with the last view of it."""
        os.close(self.descriptor)


def _new(size: int) -> int:
    descriptor = os.memfd_create("unstale", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    # Nobody who has it can take it away from the others.
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
