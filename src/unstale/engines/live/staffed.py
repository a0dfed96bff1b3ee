"""Workers that a loop starts, waits for, gives up, starts again and dismisses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unstale.engines.live.books import Books
from unstale.engines.live.fleet import Fleet, Message
from unstale.engines.live.members import AWAY, Member, Patience
from unstale.engines.live.steered import TICK, Steered
from unstale.server import Server
from unstale.tickets import Ticket

__all__ = ["Staffed"]


class Staffed(Steered):
    """A loop whose ``members`` are a fleet's. ``whole``: see `Training`."""

    fleet: Fleet
    books: Books
    server: Server
    whole: bool

    def steer(self, patience: Patience) -> None:
        """See `Steered`."""
        super().steer(patience)
        self._mark = self._listened = 0.0
        self._slow: set[int] = set()  # batches over which a worker fell silent

    def scale(self, workers: int) -> None:
        """Have so many workers: new ones are started, or some leave: first who is not there, then the last ones."""
        staying = sorted(
            (w for w, m in self.members.items() if m.state != "gone" and not m.leaving),
            key=lambda w: (self.members[w].state in AWAY, w),
        )
        for worker in staying[workers:]:
            self.members[worker].leaving = True
            if self.members[worker].state != "busy":
                self._dismiss(worker)
        free = (n for n in range(len(self.members) + workers) if n not in staying)
        for _ in range(workers - len(staying)):
            worker = next(free)
            if worker in self.members and self.members[worker].state != "gone":
                self.members[worker].leaving = False  # it was about to
            else:
                self.members[worker] = Member(worker)
                self._launch(worker)

    # Waiting for them.

    def _listen(self) -> Sequence[Message]:
        """What comes until somebody should have been heard of; all that was sent before ``_listened`` has come then."""
        seconds = self._seconds_left()
        self._listened = self.now
        messages = self.fleet.wait(seconds)
        self._excuse(seconds)
        return messages

    def _excuse(self, waited: float = 0.0) -> None:
        """What took long here (an evaluation, a machine that slept) is not held against the workers."""
        before, self._mark = self._mark, self.clock()
        if (away := self._mark - before - waited) > TICK:
            for member in self.members.values():
                member.excuse(away, self._mark)

    def _look_around(self) -> None:
        """At those who should have been heard of."""
        for member in self._overdue(self._listened):
            if member.state == "down":
                if not self._stopping:
                    self._launch(member.worker)
            elif member.state == "waiting":
                member.become("absent", self.clock())
                for callback in self.callbacks:
                    callback.on_incident(member.worker, "there is no room for it yet; the others go on without it")
                self._depart(member.worker, failed=False)
            elif member.state == "busy" and self._first_silence_over(member.ticket):
                self._expire(member)
            else:
                what, since = ("start", member.since) if member.state == "starting" else ("answer", member.sent)
                self._lose(member, f"it did not {what} within {self.clock() - since:.3g} s")

    def _first_silence_over(self, ticket: Ticket | None) -> bool:
        """Not so, it may be the batch that no worker gets done: then it counts as a failure of that, too."""
        assert ticket is not None
        first = ticket.batch not in self._slow
        self._slow.add(ticket.batch)
        return first

    # What is done about one.

    def _pull(self, workers: Iterable[int]) -> None:
        """For those who are idle; the others pull when they are."""
        for worker in sorted(workers):
            member = self.members[worker]
            if member.state != "idle" or self._stopping:
                continue
            ticket = self.books.pull(worker)
            if ticket is not None:
                self._send(member, ticket)

    def _send(self, member: Member, ticket: Ticket) -> None:
        member.begin(ticket, self.now)
        self.fleet.send(member.worker, ticket)

    def _launch(self, worker: int) -> None:
        starts = self.fleet.start(worker)
        self.members[worker].become("starting" if starts else "waiting", self.clock())
        self.members[worker].durations.clear()  # its first gradient may take as long as anybody's first

    def _expire(self, member: Member) -> None:
        """Its batch goes to another one; a push that still comes is late."""
        assert member.ticket is not None
        member.become("silent", self.clock())
        self._pull(self.books.expire(member.ticket))

    def _lose(self, member: Member, reason: str) -> None:
        """A worker is no more, or not to be trusted: its batch goes back, and it is started again, up to a limit."""
        self.whole = True
        self.fleet.kill(member.worker)
        self._note_failure(member, reason)
        self._depart(member.worker, failed=True)
        again = not member.leaving and (self._stopping or member.restarts < self.patience.max_restarts)
        # Where all ends, it is started by whoever goes on with the run.
        member.restarts += again and not self._stopping
        member.become("down" if again else "gone", self.clock())

    def _dismiss(self, worker: int) -> None:
        self.fleet.kill(worker)
        self._depart(worker, failed=False)
        self.members[worker].become("gone", self.clock())

    def _depart(self, worker: int, *, failed: bool) -> None:
        if worker not in self.server.workers:
            return
        released = self.books.depart(worker, failed=failed)
        self._pull(set(released) - {worker})
