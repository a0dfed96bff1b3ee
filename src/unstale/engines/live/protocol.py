"""What a server and its workers agree on: how a worker process is set up, and what frames hold."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ARRIVED", "HELLO", "PROCESS", "SENT", "WORK", "Setup"]

SENT = struct.Struct("<qqqqq?")
"""A ticket: number, batch, version, epoch, stream (-1 for none), whether its memory was reset; then the memory."""
ARRIVED = struct.Struct("<qdddd")
"""A push: ticket's number, loss, and when it was got, begun and ended (monotonic clock); then the stream's memory."""

HELLO = struct.Struct("<q?")
"""A script connects: its number, -1 for any, and whether only that one will do; then its model's likeness."""
WORK = struct.Struct("<qqqqqd")
"""A ticket for a script: number, batch, epoch, number of the batch in its epoch, version, progress."""
PROCESS = struct.Struct("<q")
"""A worker is up: the number of its process."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know. ``plan`` is pickled (`cloudpickle`), for the path must be set before it is read.

    ``eager``: for how many seconds it waits for a ticket without falling asleep. ``pace``: a `Clock` that says, in
    seconds, how long each gradient takes at least.
    """

    worker: int
    path: Sequence[str]
    plan: bytes
    device: str
    cores: Sequence[int]
    eager: float
    threads: int
    environment: Mapping[str, str]
    directory: str
    pace: Any = None
