"""How a server and a script of a Ray cluster talk, who cannot call each other: only actors can be called.

Each script makes an actor on its machine, its seat, where both leave messages for each other; it ends with the script,
and a call that waits there for a message then fails. The server makes one, too, the desk, which has a name and ends
with the server: there it is told of seats. Vectors lie in the object store and go from machine to machine directly.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from unstale.engines.live.ray.arrays import Boxed, boxed, opened
from unstale.engines.live.scripts.address import given
from unstale.engines.live.scripts.likeness import Likeness
from unstale.errors import ArgumentError

__all__ = ["NAMESPACE", "SCRIPT", "SERVER", "Vectors", "name_in", "packed", "seat", "unpacked"]

NAMESPACE = "unstale"
SERVER, SCRIPT = 0, 1  # for whom a message is

Vectors = tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]
"""A vector and buffers by name, as bytes."""


def seat() -> type:
    """The class of such an actor. Made here, so that its code travels with it, and its process imports no torch."""

    class Seat:
        def __init__(self) -> None:
            self._left = defaultdict[int, asyncio.Queue[Any]](asyncio.Queue)

        async def put(self, whom: int, message: Any) -> None:
            self._left[whom].put_nowait(message)

        async def get(self, whom: int) -> Any:
            return await self._left[whom].get()

    return Seat


def name_in(address: str | Path | None) -> str:
    """The desk's, in ``ray://NAME``. Raises `ArgumentError`."""
    where = given(address)
    name = (where or "").partition("://")[2] or "unstale"
    if not re.fullmatch(r"[\w-]+", name):
        raise ArgumentError(
            f"address must be ray:// and a name of letters, digits, - and _, got {where!r}; the cluster is told by "
            "RAY_ADDRESS=HOST:PORT"
        )
    return name


def packed(likeness: Likeness, vector: Tensor, buffers: Mapping[str, Tensor]) -> Vectors:
    """As such a model has them."""
    blanks = likeness.blanks
    fitting = {name: value.to(blanks[name].dtype).expand(blanks[name].shape) for name, value in buffers.items()}
    return boxed(vector.to(likeness.kind)).content, {name: boxed(value).content for name, value in fitting.items()}


def unpacked(likeness: Likeness, content: Vectors) -> tuple[Tensor, dict[str, Tensor]]:
    """What `packed` packed, in the same memory, to be read only."""
    vector, buffers = content
    size, blanks = (likeness.size,), likeness.blanks
    return opened(Boxed(vector, likeness.kind, size)), {
        name: opened(Boxed(value, blanks[name].dtype, tuple(blanks[name].shape))) for name, value in buffers.items()
    }
