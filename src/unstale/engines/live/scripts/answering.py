"""The server's side of what it and scripts say to each other, whatever carries it. They come and go as they like."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from torch import Tensor, nn

from unstale.engines.gradients.base import Computed
from unstale.engines.live.fleet import Arrived, Asked, Gone, Up
from unstale.engines.live.frames import DamagedFrame, Frame, Kind
from unstale.engines.live.protocol import ARRIVED, HELLO, WORK
from unstale.engines.live.scripts.likeness import Likeness
from unstale.measure import Receipt
from unstale.tickets import Ticket

__all__ = ["Caller", "Callers", "Heard", "Times"]

Heard = Up | Asked | Arrived | Gone
Times = tuple[float, float, float]


class Caller(ABC):
    """One script. ``point``: where its points are to lie, (d,), once it has said what its model is like."""

    point: Tensor
    worker = -1
    wish = -1
    strict = False
    likeness: Likeness | None = None
    reason = "its connection ended"
    gone = False

    @abstractmethod
    def open(self, likeness: Likeness) -> None:
        """Vectors of such a model will come and go: say `Kind.MEMORY`."""

    @abstractmethod
    def say(self, kind: Kind, payload: bytes = b"") -> None:
        """Also if it has gone meanwhile."""

    @abstractmethod
    def give(self, point: Tensor, buffers: Mapping[str, Tensor]) -> None:
        """Have them there with what is said next."""

    @abstractmethod
    def given(self) -> tuple[Tensor, dict[str, Tensor]]:
        """A vector, (d,), and buffers, that came with what it said: to be read only, until it is answered."""

    @abstractmethod
    def release(self) -> None:
        """Nothing more is to be said to it, or to be heard."""

    def by_our_clock(self, times: Times) -> Times:
        """The monotonic clock of its machine is ours."""
        return times


class Callers(ABC):
    """Those who have connected at ``address``, by number. All methods but `wake` belong to one thread.

    A script says what its model is like, gets memory for it, puts its parameters there, and is `Up`; then it is to be
    welcomed, or refused.
    """

    address: str

    def __init__(self) -> None:
        self._members: dict[int, Caller] = {}
        self._strangers: set[Caller] = set()

    @abstractmethod
    def wait(self, seconds: float) -> Sequence[Heard]:
        """See `Fleet`."""

    @abstractmethod
    def wake(self) -> None:
        """See `Fleet`."""

    def close(self, failure: str = "") -> None:
        """Nobody else comes in, and whoever is there is told that it is over, or why it could not go on."""
        for caller in [*self._strangers, *self._members.values()]:
            if not failure and not caller.gone:
                caller.say(Kind.STOP)
            self._drop(caller, failure)

    def knows(self, worker: int) -> bool:
        """Whether it was not refused or forgotten."""
        return worker in self._members

    def likeness(self, worker: int) -> Likeness:
        """What a worker's model is like."""
        likeness = self._members[worker].likeness
        assert likeness is not None
        return likeness

    def model(self, worker: int) -> nn.Module:
        """One like a worker's that is up, with its parameters. Raises `ArgumentError`."""
        return self.likeness(worker).build(*self._members[worker].given())

    def point(self, worker: int) -> Tensor:
        """Where a worker's points lie."""
        return self._members[worker].point

    def welcome(self, worker: int, order: list[str]) -> None:
        """Its parameters lie one after the other in this order, from now on."""
        self._say(worker, Kind.WELCOME, json.dumps({"worker": worker, "order": order}).encode())

    def send(self, worker: int, ticket: Ticket, per_epoch: int, progress: float) -> None:
        """Answer a worker that asked for a ticket."""
        within = ticket.batch % per_epoch
        told = WORK.pack(ticket.number, ticket.batch, ticket.epoch, within, ticket.version, progress)
        self._say(worker, Kind.TICKET, told, (ticket.params, ticket.buffers))

    def tell(self, worker: int, receipt: Receipt) -> None:
        """Answer a worker that pushed."""
        self._say(worker, Kind.RECEIPT, json.dumps(asdict(receipt)).encode())

    def show(self, worker: int, theta: Tensor, buffers: Mapping[str, Tensor], *, last: bool = False) -> None:
        """θ, to a worker that asked for it, or to whom it is the ``last`` that it gets."""
        self._say(worker, Kind.STOP if last else Kind.LOAD, b"", (theta, buffers))

    def refuse(self, worker: int, reason: str) -> None:
        """Tell it why, and hear no more of it."""
        self._drop(self._members[worker], reason)
        self.forget(worker)

    def forget(self, worker: int) -> None:
        """Its number is free again, once nothing is to be done about it any more."""
        self._members.pop(worker, None)

    def _say(
        self, worker: int, kind: Kind, payload: bytes, with_it: tuple[Tensor, Mapping[str, Tensor]] | None = None
    ) -> None:
        caller = self._members.get(worker)
        if caller is not None and not caller.gone:
            if with_it is not None:
                caller.give(*with_it)
            caller.say(kind, payload)

    def _hear(self, caller: Caller, frames: Iterable[Frame]) -> list[Heard]:
        heard = list[Heard]()
        try:
            for frame in frames:
                heard += self._understood(caller, frame)
        except DamagedFrame as finding:
            heard += self._lost(caller, f"it sent {finding}")
        except (ValueError, OSError, OverflowError) as error:  # such as: there is no memory for its model
            heard += self._lost(caller, str(error))
        return heard

    def _understood(self, caller: Caller, frame: Frame) -> list[Heard]:
        kind, payload, known = frame.kind, frame.payload, caller.likeness is not None
        if kind == Kind.HELLO and not known and len(payload) > HELLO.size:
            caller.wish, caller.strict = HELLO.unpack_from(payload)
            caller.likeness = Likeness.unpacked(payload[HELLO.size :])
            caller.open(caller.likeness)
            return []
        if kind == Kind.UP and known and caller.worker < 0:
            return [self._number(caller)]
        if kind == Kind.LEAVE:
            caller.reason = ""
            return []
        if kind == Kind.FAILED:
            caller.reason = payload.decode(errors="replace").strip() or "it failed"
            return []
        if caller.worker >= 0:
            if kind == Kind.PULL:
                return [Asked(caller.worker, "ticket")]
            if kind == Kind.LOAD:
                return [Asked(caller.worker, "theta")]
            if kind == Kind.PUSH and len(payload) == ARRIVED.size:
                number, loss, *times = ARRIVED.unpack(payload)
                gradient, buffers = caller.given()
                computed = Computed(loss, gradient, buffers)
                return [Arrived(caller.worker, number, computed, caller.by_our_clock((times[0], times[1], times[2])))]
        raise DamagedFrame("a message that makes no sense")

    def _number(self, caller: Caller) -> Up:
        """The one that it wishes to have, if it is free, or the lowest one that is."""
        free = caller.wish >= 0 and caller.wish not in self._members
        if not free and caller.strict:
            raise ValueError(
                f"worker must be a number that no connected script has, got {caller.wish}; give each its own, or none"
            )
        lowest = next(n for n in range(len(self._members) + 1) if n not in self._members)
        caller.worker = caller.wish if free else lowest
        self._strangers.remove(caller)
        self._members[caller.worker] = caller
        return Up(caller.worker)

    def _lost(self, caller: Caller, reason: str) -> list[Heard]:
        self._drop(caller, reason)
        return [Gone(caller.worker, reason)] if caller.worker >= 0 else []

    def _drop(self, caller: Caller, reason: str = "") -> None:
        if caller.gone:
            return
        caller.gone = True
        if reason:
            caller.say(Kind.FAILED, reason.encode())
        caller.release()
        self._strangers.discard(caller)
