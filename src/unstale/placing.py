"""Vectors that one loop goes through together begin at different places of a page.

A cache tells its lines apart by some bits of their addresses. Where every vector begins at the same place of a page, as
large ones do by themselves, lines that are read together may agree in all of them: at some sizes (270,000 floats on
AMD's Zen, whose pages are a multiple of 264 apart then) each drives the other out, and the step takes three times as
long.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["GRADIENT", "POINT", "empty", "skipped"]

PAGE, STEP = 4096, 256  # bytes
SMALL = 16 * PAGE  # less than that is not on pages of its own, and in the cache it is all the time
# The places, of 16, of what is made outside of a server's memory; its own vectors count from 0.
POINT, GRADIENT = 14, 15


def skipped(address: int, place: int) -> int:
    """How many bytes after ``address`` there is that place of a page."""
    return (place * STEP - address) % PAGE


def empty(like: Tensor, place: int) -> Tensor:
    """An uninitialised vector of that shape, (d,), dtype and device. A large one on the CPU begins at that place."""
    if like.device.type != "cpu" or like.nbytes < SMALL:
        return torch.empty_like(like)
    room = torch.empty(like.numel() + PAGE // like.element_size(), dtype=like.dtype, device=like.device)
    begin = skipped(room.data_ptr(), place) // like.element_size()
    return room[begin : begin + like.numel()]
