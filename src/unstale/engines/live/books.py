"""A server's calls, each written into the log of events, in the order in which they are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unstale.engines.gradients.base import hand_in
from unstale.engines.live.fleet import Arrived
from unstale.events import EventLog, Kind
from unstale.measure import Receipt
from unstale.server import Server
from unstale.tickets import Ticket

__all__ = ["Books"]


class Books:
    """Whoever serves real workers calls the server through these.

    now: the time of what is written, in seconds of the run. when: a moment of the monotonic clock in the same.
    """

    def __init__(self, server: Server, log: EventLog, now: Callable[[], float], when: Callable[[float], float]) -> None:
        self.server, self.log = server, log
        self._now, self._when = now, when

    def join(self, worker: int) -> None:
        """A worker is there; it may have been counted on already."""
        if worker not in self.server.workers:
            self.server.join(worker)
        self._note("join", worker)

    def pull(self, worker: int) -> Ticket | None:
        """See `Server.pull`."""
        ticket = self.server.pull(worker)
        if ticket is None:
            self._note("pull", worker, outcome="waits")
        else:
            self._note("pull", worker, outcome="issued", ticket=ticket.number, batch=ticket.batch)
        return ticket

    def push(self, message: Arrived, ticket: Ticket, *, pull: bool) -> tuple[Receipt, Ticket | None]:
        """A push of what came for ``ticket``, and with ``pull`` an exchange. Raises as `Server.push`."""
        receipt, answer = hand_in(self.server, ticket, message.computed, pull=pull)
        got, began, ended = map(self._when, message.times)
        told = {"ticket": ticket.number, "batch": ticket.batch, "lr": receipt.lr or 0.0, "outcome": receipt.outcome}
        told |= {"got": got, "began": began, "ended": ended, "reply": -1 if answer is None else answer.number}
        self._note("exchange" if pull else "push", message.worker, **told)
        for worker in receipt.cancelled:
            self._note("cancel", worker)
        return receipt, answer

    def expire(self, ticket: Ticket) -> tuple[int, ...]:
        """See `Server.expire`."""
        version = self.server.version
        released = self.server.expire(ticket)
        self._note("expire", ticket.worker, ticket=ticket.number)
        self._flushed(version)
        return released

    def depart(self, worker: int, *, failed: bool) -> tuple[int, ...]:
        """See `Server.depart`."""
        version = self.server.version
        released = self.server.depart(worker, failed=failed)
        self._note("depart", worker, outcome="failed" if failed else "left")
        self._flushed(version)
        return released

    def _flushed(self, version: int) -> None:
        if self.server.version > version:
            self._note("flush", -1)

    def _note(self, kind: Kind, worker: int, **about: Any) -> None:
        self.log.add(self._now(), kind, worker=worker, version=self.server.version, **about)
