"""What a server and a worker process agree on: how a worker is set up, and what their frames hold."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ARRIVED", "PROCESS", "SENT", "Setup"]

SENT = struct.Struct("<qqqqq?")
"""A ticket: number, batch, version, epoch, stream (-1 for none), whether its memory was reset; then the memory."""
ARRIVED = struct.Struct("<qdddd")
"""A push: ticket's number, loss, and when it was got, begun and ended (monotonic clock); then the stream's memory."""

PROCESS = struct.Struct("<q")
"""A worker is up: the number of its process."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know. ``plan`` is pickled (`cloudpickle`), for the path must be set before it is read."""

    worker: int
    path: Sequence[str]
    plan: bytes
    device: str
    cores: Sequence[int]
    threads: int
    environment: Mapping[str, str]
    directory: str
    pace: Any = None
    """A `Clock` that says, in seconds, how long each gradient takes at least."""
