"""Scripts that connect to a server: a socket and a piece of shared memory each. They come and go as they like."""

from __future__ import annotations

import json
import selectors
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from unstale.engines.gradients.base import Computed
from unstale.engines.live.address import Door, same_user
from unstale.engines.live.bell import Bell
from unstale.engines.live.block import Block
from unstale.engines.live.fleet import Arrived, Asked, Gone, Up
from unstale.engines.live.frames import Channel, DamagedFrame, Frame, Kind
from unstale.engines.live.likeness import Likeness
from unstale.engines.live.protocol import ARRIVED, HELLO, WORK
from unstale.measure import Receipt
from unstale.tickets import Ticket

__all__ = ["Callers", "Heard"]

Heard = Up | Asked | Arrived | Gone


@dataclass(eq=False)
class _Caller:
    line: Channel
    worker: int = -1
    wish: int = -1
    strict: bool = False
    likeness: Likeness | None = None
    block: Block | None = None
    reason: str = "its connection ended"


class Callers:
    """Those who have connected at ``path``, by number.

    A script says what its model is like, gets memory for it, puts its parameters there, and is `Up`; then it is to be
    welcomed, or refused.
    """

    def __init__(self, path: Path) -> None:
        self.door = Door(path)
        self._members: dict[int, _Caller] = {}
        self._strangers: set[_Caller] = set()
        self._selector = selectors.DefaultSelector()
        self._bell = Bell(self._selector)
        self._selector.register(self.door.socket, selectors.EVENT_READ, self.door)

    def wait(self, seconds: float) -> list[Heard]:
        """See `Fleet`."""
        heard: list[Heard] = []
        for key, _ in self._selector.select(max(seconds, 0.0)):
            if isinstance(key.data, _Caller):
                heard += self._hear(key.data)
            elif key.data is self.door:
                self._let_in()
            else:
                self._bell.heard()
        return heard

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
        block = self._block(worker)
        return self.likeness(worker).build(block.point, block.buffers)

    def point(self, worker: int) -> Tensor:
        """Where a worker's points lie."""
        return self._block(worker).point

    def welcome(self, worker: int, order: list[str]) -> None:
        """Its parameters lie one after the other in this order, from now on."""
        self._send(worker, Kind.WELCOME, json.dumps({"worker": worker, "order": order}).encode())

    def send(self, worker: int, ticket: Ticket, per_epoch: int, progress: float) -> None:
        """Answer a worker that asked for a ticket."""
        if not self.knows(worker):
            return
        self._block(worker).put(ticket.params, ticket.buffers)
        within = ticket.batch % per_epoch
        self._send(
            worker, Kind.TICKET, WORK.pack(ticket.number, ticket.batch, ticket.epoch, within, ticket.version, progress)
        )

    def tell(self, worker: int, receipt: Receipt) -> None:
        """Answer a worker that pushed."""
        self._send(worker, Kind.RECEIPT, json.dumps(asdict(receipt)).encode())

    def show(self, worker: int, theta: Tensor, buffers: Mapping[str, Tensor], *, last: bool = False) -> None:
        """θ, to a worker that asked for it, or to whom it is the ``last`` that it gets."""
        if not self.knows(worker):
            return
        self._block(worker).put(theta, buffers)
        self._send(worker, Kind.STOP if last else Kind.LOAD)

    def refuse(self, worker: int, reason: str) -> None:
        """Tell it why, and hear no more of it."""
        self._drop(self._members[worker], reason)
        self.forget(worker)

    def forget(self, worker: int) -> None:
        """Its number is free again, once nothing is to be done about it any more."""
        self._members.pop(worker, None)

    def wake(self) -> None:
        """See `Fleet`."""
        self._bell.ring()

    def close(self, failure: str = "") -> None:
        """Nobody else comes in, and whoever is there is told that it is over, or why it could not go on."""
        self.door.close()
        for caller in [*self._strangers, *self._members.values()]:
            if not failure and not caller.line.closed:
                caller.line.send(Kind.STOP)
            self._drop(caller, failure)
        self._selector.close()
        self._bell.close()

    def _let_in(self) -> None:
        try:
            sock, _ = self.door.socket.accept()
        except OSError:
            return  # it has gone again, or there are no files left
        if not same_user(sock):
            sock.close()
            return
        caller = _Caller(Channel(sock))
        self._strangers.add(caller)
        self._selector.register(caller.line, selectors.EVENT_READ, caller)

    def _hear(self, caller: _Caller) -> list[Heard]:
        heard = list[Heard]()
        try:
            caller.line.flush()
            for frame in caller.line.receive():
                heard += self._understood(caller, frame)
        except DamagedFrame as finding:
            heard += self._lost(caller, f"it sent {finding}")
        except (ValueError, OSError, OverflowError) as error:  # such as: there is no memory for its model
            heard += self._lost(caller, str(error))
        else:
            if caller.line.closed:
                heard += self._lost(caller, caller.reason)
            else:
                caller.line.watch(self._selector)
        return heard

    def _understood(self, caller: _Caller, frame: Frame) -> list[Heard]:
        kind, payload, block = frame.kind, frame.payload, caller.block
        if kind == Kind.HELLO and block is None and len(payload) > HELLO.size:
            caller.wish, caller.strict = HELLO.unpack_from(payload)
            likeness = caller.likeness = Likeness.unpacked(payload[HELLO.size :])
            block = caller.block = Block(likeness.size, likeness.kind, likeness.blanks)
            caller.line.hand_over(Kind.MEMORY, block.descriptor)
            block.close()
            return []
        if kind == Kind.UP and block is not None and caller.worker < 0:
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
            if kind == Kind.PUSH and len(payload) == ARRIVED.size and block is not None:
                number, loss, got, began, ended = ARRIVED.unpack(payload)
                computed = Computed(loss, block.gradient, dict(block.buffers))
                return [Arrived(caller.worker, number, computed, (got, began, ended))]
        raise DamagedFrame("a message that makes no sense")

    def _number(self, caller: _Caller) -> Up:
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

    def _block(self, worker: int) -> Block:
        block = self._members[worker].block
        assert block is not None
        return block

    def _send(self, worker: int, kind: Kind, payload: bytes = b"") -> None:
        """To whoever may have gone meanwhile."""
        caller = self._members.get(worker)
        if caller is not None and not caller.line.closed:
            caller.line.send(kind, payload)
            caller.line.watch(self._selector)

    def _lost(self, caller: _Caller, reason: str) -> list[Heard]:
        self._drop(caller, reason)
        return [Gone(caller.worker, reason)] if caller.worker >= 0 else []

    def _drop(self, caller: _Caller, reason: str = "") -> None:
        if caller.line.socket.fileno() < 0:
            return  # it is gone already
        if reason:
            caller.line.send(Kind.FAILED, reason.encode())
        self._selector.unregister(caller.line)
        caller.line.close()
        self._strangers.discard(caller)
