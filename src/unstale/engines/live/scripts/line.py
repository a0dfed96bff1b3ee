"""A script's connection to a server on the same machine: a socket, and memory that both see."""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from unstale.engines.live.block import Block
from unstale.engines.live.frames import Channel, DamagedFrame, Frame, Kind
from unstale.engines.live.scripts.address import same_user
from unstale.engines.live.scripts.asking import Line
from unstale.engines.live.scripts.likeness import Likeness
from unstale.errors import RunError

__all__ = ["SocketLine"]

PAUSE = 0.05  # seconds between attempts to connect


class SocketLine(Line):
    """See `Line`."""

    def __init__(self, path: Path, wait: float) -> None:
        self.where = str(path)
        self._line = Channel(_connected(path, wait), files=1)
        self._block: Block | None = None
        _OPEN.add(self)

    @property
    def point(self) -> Tensor:
        """See `Line`, here and below."""
        assert self._block is not None
        return self._block.point

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Shared with the server."""
        assert self._block is not None
        return self._block.buffers

    def close(self, failure: str = "") -> None:
        """With a word."""
        if not self._line.closed:
            self._line.send(Kind.FAILED if failure else Kind.LEAVE, failure.encode())
        self.drop()

    def drop(self) -> None:
        """Close this process's end, without a word."""
        self._line.close()

    def _open(self, likeness: Likeness) -> None:
        if not self._line.descriptors:
            raise RunError(f"the server at {self.where} gave no memory; too many files may be open here (ulimit -n)")
        self._block = Block(likeness.size, likeness.kind, likeness.blanks, self._line.descriptors.pop())
        self._block.close()

    @torch.no_grad()
    def _give(self, vector: Tensor, buffers: Mapping[str, Tensor]) -> None:
        assert self._block is not None
        self._block.gradient.copy_(vector)
        for name, value in self._block.buffers.items():
            value.copy_(buffers[name])

    def _exchange(self, kind: Kind, payload: bytes) -> Frame | None:
        self._line.send(kind, payload)
        try:
            return self._line.next()
        except DamagedFrame as finding:
            raise RunError(f"the server at {self.where} sent {finding}; start it and its scripts again") from None


def _connected(path: Path, wait: float) -> socket.socket:
    until = time.monotonic() + wait
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(str(path))
            break
        except OSError as error:
            sock.close()
            if time.monotonic() > until:
                raise RunError(
                    f"no server answers at {path} ({error.strerror}); start one with `unstale serve`, or name another"
                ) from None
            time.sleep(PAUSE)
    if not same_user(sock):
        sock.close()
        raise RunError(f"the server at {path} belongs to another user; name the address of your own")
    return sock


_OPEN: weakref.WeakSet[SocketLine] = weakref.WeakSet()


def _dropped() -> None:
    """In a child that a script has forked, such as a loader's: the server must see when the script itself ends."""
    for line in list(_OPEN):
        line.drop()


os.register_at_fork(after_in_child=_dropped)
