"""A script's side of what it and a server say to each other, whatever carries it."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from unstale import flat
from unstale.engines.live.frames import Frame, Kind
from unstale.engines.live.protocol import ARRIVED, HELLO, WORK
from unstale.engines.live.scripts.likeness import Likeness
from unstale.errors import ArgumentError, RunError
from unstale.flat import Layout
from unstale.measure import Receipt

__all__ = ["Line", "Work"]


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


class Line(ABC):
    """The way to a server: vectors and numbers, no models. ``where``: what the server is called in errors.

    Raises `RunError` if the server is gone or sends the script away, `ArgumentError` if it does not take its model.
    """

    where: str
    _ended: Frame | None = None
    _asking = False

    @property
    @abstractmethod
    def point(self) -> Tensor:
        """(d,) where points come."""

    @property
    @abstractmethod
    def buffers(self) -> Mapping[str, Tensor]:
        """Where buffers come."""

    def meet(self, model: nn.Module, likeness: Likeness, number: int, strict: bool) -> tuple[int, Layout]:
        """Say what the model is like, and what is in it; answers the worker's number, and the order of its vectors."""
        self._ask(Kind.HELLO, HELLO.pack(number, strict) + likeness.packed(), Kind.MEMORY)
        self._open(likeness)
        self._give(flat.parameters(model, likeness.layout()), dict(model.named_buffers()))
        welcome = json.loads(self._ask(Kind.UP, b"", Kind.WELCOME).payload)
        return int(welcome["worker"]), likeness.layout(welcome["order"])

    def pull(self) -> Work | None:
        """A ticket, whose point and buffers are there now; None at the end, when θ is. Waits."""
        answer = self._ask(Kind.PULL, b"", Kind.TICKET, Kind.STOP)
        return None if answer.kind == Kind.STOP else Work(time.monotonic(), *WORK.unpack(answer.payload))

    def push(self, work: Work, gradient: Tensor, buffers: Mapping[str, Tensor], loss: float) -> Receipt:
        """Hand in a gradient, (d,)."""
        self._give(gradient, buffers)
        told = ARRIVED.pack(work.number, loss, work.got, work.got, time.monotonic())
        answer = self._ask(Kind.PUSH, told, Kind.RECEIPT, Kind.STOP)
        if answer.kind == Kind.STOP:
            return Receipt("late", -1, work.number, reason="the training has ended")
        read = json.loads(answer.payload)
        return Receipt(**{**read, "released": tuple(read["released"]), "cancelled": tuple(read["cancelled"])})

    def theta(self) -> None:
        """Have θ, and the buffers to evaluate it with, brought here; also when it has ended."""
        self._ask(Kind.LOAD, b"", Kind.LOAD, Kind.STOP)

    @abstractmethod
    def close(self, failure: str = "") -> None:
        """Leave; once is enough."""

    @abstractmethod
    def _open(self, likeness: Likeness) -> None:
        """Vectors of such a model will come and go."""

    @abstractmethod
    def _give(self, vector: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Have them there when the next question comes."""

    @abstractmethod
    def _exchange(self, kind: Kind, payload: bytes) -> Frame | None:
        """Send, and wait for the answer. None: the server is gone."""

    def _ask(self, kind: Kind, payload: bytes, *expected: Kind) -> Frame:
        if self._ended is not None:
            return self._ended
        if self._asking:
            raise RunError("a pull or a push of this worker was interrupted before its answer came; connect again")
        self._asking = True
        answer = self._exchange(kind, payload)
        self._asking = False
        if answer is None:
            raise RunError(f"the server at {self.where} is gone; what it had saved is where its --out says")
        if answer.kind == Kind.FAILED:
            reason = answer.payload.decode(errors="replace")
            raise ArgumentError(reason) if kind in (Kind.HELLO, Kind.UP) else RunError(f"the server says: {reason}")
        if answer.kind == Kind.STOP:
            self._ended = answer
        if answer.kind not in expected:
            raise RunError(f"the training at {self.where} had ended before this script's first pull")
        return answer
