"""Scripts that come as they like, ask for batches, fall silent, leave, and come back."""

from __future__ import annotations

from collections.abc import Iterable

from unstale.engines.live.books import Books
from unstale.engines.live.members import Member, Patience
from unstale.engines.live.scripts.answering import Callers
from unstale.engines.live.scripts.terms import Terms
from unstale.engines.live.steered import Steered
from unstale.tickets import Ticket

__all__ = ["Visited"]


class Visited(Steered):
    """A loop whose ``members`` are scripts that connect. ``books``: from when there is something to be trained."""

    fleet: Callers
    books: Books
    terms: Terms

    def steer(self, patience: Patience) -> None:
        """See `Steered`."""
        super().steer(patience)
        self._asking: set[int] = set()
        self._begun = False

    def _deadline(self, member: Member) -> float | None:
        """See `Steered`. One that neither asks nor computes may take its time, but others may have to wait for it."""
        if member.state == "idle":
            return None if member.worker in self._asking else member.since + self.patience.starting
        return super()._deadline(member)

    def _look_around(self) -> None:
        """At those who should have been heard of: first their batches go to others, then they are counted on no more.

        They may still come back.
        """
        now = self.clock()
        for member in self._overdue(now):
            if member.state == "busy":
                assert member.ticket is not None
                member.become("silent", now)
                self._pull(self.books.expire(member.ticket))
            else:
                self._depart(member, f"nothing was heard of it for {now - member.since:.0f} s", failed=False)

    def _begin_or_pull(self, worker: int) -> None:
        """The first batch is handed out when as many workers as were announced have come."""
        if self._begun:
            return self._pull([worker])
        here = [member.worker for member in self.members.values() if member.state != "gone"]
        if len(here) < self.terms.workers:
            return None
        self._begun = True
        for worker in self.books.server.workers:
            if worker not in here:
                self.books.depart(worker, failed=False)
        return self._pull(self._asking.copy())

    def _join(self, member: Member) -> None:
        now = self.clock()
        if member.worker not in self.books.server.workers:
            self.books.join(member.worker)
        member.become("idle", now)

    def _pull(self, workers: Iterable[int]) -> None:
        """For those who asked; the others pull when they do."""
        for worker in sorted(self._asking.intersection(workers)):
            if self._stopping:
                return
            ticket = self.books.pull(worker)
            if ticket is not None:
                self._send(worker, ticket)

    def _send(self, worker: int, ticket: Ticket) -> None:
        self._asking.discard(worker)
        self.members[worker].begin(ticket, self.now)
        self.fleet.send(worker, ticket, self.terms.per_epoch, self.books.server.progress)

    def _lose(self, member: Member, reason: str) -> None:
        self.fleet.refuse(member.worker, reason)
        self._depart(member, reason, failed=True)

    def _depart(self, member: Member, reason: str, *, failed: bool) -> None:
        """A worker is not there any more, or not to be counted on; its batch goes back."""
        if reason:
            self._note_failure(member, reason)
        self._asking.discard(member.worker)
        member.become("gone", self.clock())
        if member.worker in self.books.server.workers:
            self._pull(self.books.depart(member.worker, failed=failed))
