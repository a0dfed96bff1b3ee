"""A script's connection to a server on the same machine: a socket, and memory that both see."""

from __future__ import annotations

import json
import os
import socket
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unstale import flat
from unstale.engines.live.address import same_user
from unstale.engines.live.block import Block
from unstale.engines.live.frames import Channel, DamagedFrame, Frame, Kind
from unstale.engines.live.likeness import Likeness
from unstale.engines.live.protocol import ARRIVED, HELLO, WORK
from unstale.errors import ArgumentError, RunError
from unstale.flat import Layout
from unstale.measure import Receipt

__all__ = ["SocketLine", "Work"]

PAUSE = 0.05  # seconds between attempts to connect


@dataclass(frozen=True)
class Work:
    """What a pull asks for: one gradient.

    batch: its number through all epochs. epoch: which epoch that is of; index: its number in there. Each is given to
    one worker, and to another only if that one fails; a script with a loader of its own need not care.
    version: of the parameters. progress: epochs of data that all workers together have done. got: when it came, by
    this machine's monotonic clock.
    """

    got: float
    number: int
    batch: int
    epoch: int
    index: int
    version: int
    progress: float


class SocketLine:
    """See `Line`."""

    def __init__(self, path: Path, wait: float) -> None:
        self._path = path
        self._line = Channel(_connected(path, wait), files=1)
        self._block: Block | None = None
        self._ended: Frame | None = None
        _OPEN.add(self)

    @property
    def point(self) -> Tensor:
        """Where points come."""
        assert self._block is not None
        return self._block.point

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """Where buffers come."""
        assert self._block is not None
        return self._block.buffers

    def meet(self, model: nn.Module, likeness: Likeness, number: int, strict: bool) -> tuple[int, Layout]:
        """See `Line`, here and below."""
        self._ask(Kind.HELLO, HELLO.pack(number, strict) + likeness.packed(), Kind.MEMORY)
        if not self._line.descriptors:
            raise RunError(f"the server at {self._path} gave no memory; too many files may be open here (ulimit -n)")
        self._block = Block(likeness.size, likeness.kind, likeness.blanks, self._line.descriptors.pop())
        self._block.close()
        self._block.point.copy_(flat.parameters(model, likeness.layout()))
        self._copy(dict(model.named_buffers()))
        welcome = json.loads(self._ask(Kind.UP, b"", Kind.WELCOME).payload)
        return int(welcome["worker"]), likeness.layout(welcome["order"])

    def pull(self) -> Work | None:
        """Waits."""
        answer = self._ask(Kind.PULL, b"", Kind.TICKET, Kind.STOP)
        return None if answer.kind == Kind.STOP else Work(time.monotonic(), *WORK.unpack(answer.payload))

    def push(self, work: Work, gradient: Tensor, buffers: Mapping[str, Tensor], loss: float) -> Receipt:
        """With its copies made."""
        assert self._block is not None
        self._block.gradient.copy_(gradient)
        self._copy(buffers)
        told = ARRIVED.pack(work.number, loss, work.got, work.got, time.monotonic())
        answer = self._ask(Kind.PUSH, told, Kind.RECEIPT, Kind.STOP)
        if answer.kind == Kind.STOP:
            return Receipt("late", -1, work.number, reason="the training has ended")
        read = json.loads(answer.payload)
        return Receipt(**{**read, "released": tuple(read["released"]), "cancelled": tuple(read["cancelled"])})

    def theta(self) -> None:
        """Also when it has ended."""
        self._ask(Kind.LOAD, b"", Kind.LOAD, Kind.STOP)

    def close(self, failure: str = "") -> None:
        """Once is enough."""
        if not self._line.closed:
            self._line.send(Kind.FAILED if failure else Kind.LEAVE, failure.encode())
        self.drop()

    def drop(self) -> None:
        """Close this process's end, without a word."""
        self._line.close()

    @torch.no_grad()
    def _copy(self, buffers: Mapping[str, Tensor]) -> None:
        assert self._block is not None
        for name, value in self._block.buffers.items():
            value.copy_(buffers[name])

    def _ask(self, kind: Kind, payload: bytes, *expected: Kind) -> Frame:
        """Send, and wait for the answer."""
        if self._ended is not None:
            return self._ended
        self._line.send(kind, payload)
        try:
            answer = self._line.next()
        except DamagedFrame as finding:
            raise RunError(f"the server at {self._path} sent {finding}; start it and its scripts again") from None
        if answer is None:
            raise RunError(f"the server at {self._path} is gone; what it had saved is where its --out says")
        if answer.kind == Kind.FAILED:
            reason = answer.payload.decode(errors="replace")
            raise ArgumentError(reason) if kind in (Kind.HELLO, Kind.UP) else RunError(f"the server says: {reason}")
        if answer.kind == Kind.STOP:
            self._ended = answer
        if answer.kind not in expected:
            raise RunError(f"the training at {self._path} had ended before this script's first pull")
        return answer


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
