"""Asynchronous training on real workers: one server, in this process, and a fleet of workers that come and go.

Nothing here knows what a worker is: a process, or an actor on another machine. Every call of the server is an event in
the log, in the order in which it was made.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterable, Sequence
from functools import singledispatchmethod
from typing import Any

from unstale.callbacks import Callback, StopRun
from unstale.describe import Plain
from unstale.engines.base import Plan
from unstale.engines.live.fleet import Arrived, Fleet, Gone, Message, Up
from unstale.engines.live.members import Member, Patience
from unstale.engines.training import Training
from unstale.errors import ArgumentError, RunError
from unstale.events import EventLog, Kind
from unstale.measure import Receipt
from unstale.server import Server
from unstale.tickets import Ticket

__all__ = ["Conductor"]

TICK = 1.0  # seconds; the longest wait without a look around
KEPT = 3  # reasons of failures, for each worker


class Conductor(Training):
    """Drives a run: hears of workers, calls the server, notes what happened, and does what is asked of it meanwhile."""

    def __init__(
        self,
        plan: Plan,
        fleet: Callable[[Plan, Server], Fleet],
        patience: Patience,
        log: EventLog,
        callbacks: tuple[Callback, ...] = (),
        engine: str = "processes",
    ) -> None:
        super().__init__(plan, callbacks)
        self.patience, self.log = patience, log
        self.engine = engine
        self.members: dict[int, Member] = {}
        self.asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.fleet = fleet(plan, self.server)
        self._started = time.monotonic()
        self._stopping, self.signal = "", 0
        self._halt = 0.0
        self._mark = self._listened = 0.0
        self._slow: set[int] = set()  # batches over which a worker fell silent

    # What others ask, from their threads: it is done between two pushes.

    def ask(self, what: Callable[[], None]) -> None:
        """Have it done by the thread that conducts."""
        self.asked.put(what)
        self.fleet.wake()

    def stop(self, how: str = "stopped", number: int = 0) -> None:
        """Let gradients that are under way arrive, for as long as the grace lasts, and end. Again: end at once.

        ``how``: "stopped", or "interrupted" by signal ``number``.
        """
        self._halt = self.clock() + (0.0 if self._stopping else self.patience.grace)
        self._stopping, self.signal = self._stopping or how, self.signal or number

    def stats(self) -> dict[str, Plain]:
        """How it goes."""
        seconds = self.clock()
        alive = sum(m.state not in ("down", "gone") for m in self.members.values())
        return {
            "seconds": seconds,
            "progress": self.server.progress,
            "pushes": self.recorder.pushes,
            "pushes_per_second": self.recorder.pushes / seconds if seconds else 0.0,
            "alive": alive,
            "workers": self._reports(),
        }

    def scale(self, workers: int) -> None:
        """Have so many workers: new ones are started, or the ones with the highest numbers finish and leave."""
        staying = sorted(w for w, m in self.members.items() if m.state != "gone" and not m.leaving)
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

    # The loop.

    def train(self, let_through: Callable[[], None]) -> None:
        """See `Training`."""
        for worker in self.server.workers:
            self.members[worker] = Member(worker)
            self._note("join", worker)
            self._launch(worker)
        while not self._over():
            let_through()
            self._do_what_is_asked()
            for message in self._listen():
                # It may have been given up since, for what else it said.
                if self.members[message.worker].state not in ("down", "gone"):
                    self._hear(message)
                    self.evaluate_if_due()
                    self._excuse()
            self._look_around()
            self.log.write_if_due()
        if self._stopping:
            raise KeyboardInterrupt if self._stopping == "interrupted" else StopRun

    def clock(self) -> float:
        """Seconds since the start; also the time of what is recorded now."""
        self.now = time.monotonic() - self._started
        return self.now

    def extras(self) -> dict[str, Any]:
        """See `Training`."""
        return {"members": tuple(self._reports()), "events": self.log.frame()}

    def _reports(self) -> list[Plain]:
        return [self.members[worker].report() for worker in sorted(self.members)]

    def close(self) -> None:
        """End the fleet."""
        self.fleet.close()

    def means(self) -> dict[str, Plain]:
        """See `Training`."""
        return {"strategy": "sequential", "strategy_reason": "as each worker computes"}

    def _over(self) -> bool:
        busy = [m for m in self.members.values() if m.state == "busy"]
        if self._stopping:
            return not busy or self.clock() > self._halt
        if self.server.finished:
            return True
        if all(m.state == "gone" for m in self.members.values()):
            last = "; ".join(f"worker {m.worker}: {m.failures[-1]}" for m in self.members.values() if m.failures)
            raise RunError(
                f"all workers are gone after {self.recorder.pushes} pushes, and none may be started again "
                f"(max_restarts={self.patience.max_restarts}); {last or 'they were dismissed'}"
            )
        return False

    def _listen(self) -> Sequence[Message]:
        """What comes until somebody should have been heard of; all that was sent before ``_listened`` has come then."""
        self._listened = self.clock()
        until = [d for m in self.members.values() if (d := m.deadline(self.patience)) is not None]
        until += [self._halt] if self._stopping else []
        seconds = max(0.0, min([TICK, *(moment - self._listened for moment in until)]))
        messages = self.fleet.wait(seconds)
        self._excuse(seconds)
        return messages

    def _excuse(self, waited: float = 0.0) -> None:
        """What took long here (an evaluation, a machine that slept) is not held against the workers."""
        before, self._mark = self._mark, self.clock()
        if (absent := self._mark - before - waited) > TICK:
            for member in self.members.values():
                member.excuse(absent, self._mark)

    def _do_what_is_asked(self) -> None:
        while not self.asked.empty():
            self.asked.get()()

    def _look_around(self) -> None:
        """At those who should have been heard of."""
        for member in list(self.members.values()):
            deadline = member.deadline(self.patience)
            if deadline is None or deadline > self._listened:
                continue
            if member.state == "down":
                if not self._stopping:
                    self._launch(member.worker)
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

    # What is heard.

    @singledispatchmethod
    def _hear(self, message: Message) -> None:
        raise NotImplementedError

    @_hear.register
    def _(self, message: Up) -> None:
        member = self.members[message.worker]
        if message.worker not in self.server.workers:
            self.server.join(message.worker)
            self._note("join", message.worker)
        member.become("idle", self.clock())
        self._pull([message.worker])

    @_hear.register
    def _(self, message: Arrived) -> None:
        member, now = self.members[message.worker], self.clock()
        ticket = member.ticket
        if ticket is None or not self._was_sent(member, message.number):
            return self._lose(member, "it sent a gradient that nobody had asked for")
        # Any other is late, or came twice, which the ledger knows; its worker is still at what it is at.
        current = message.number == ticket.number and member.state in ("busy", "silent")
        ticket = ticket if current else ticket.renumbered(message.number)
        alone = not (self.server.waiting or member.leaving or self._stopping) and current
        computed, answer = message.computed, None
        about: dict[str, Any] = {"buffers": computed.buffers, "memory": computed.memory if ticket.streamed else None}
        try:
            if alone:
                receipt, answer = self.server.exchange(ticket, computed.gradient, **about)
            else:
                receipt = self.server.push(ticket, computed.gradient, **about)
        except ArgumentError as error:
            return self._lose(member, str(error))
        member.count(receipt, now)
        self._note_push("exchange" if alone else "push", message, ticket, receipt, answer)
        if current:
            member.become("idle", now)
        if answer is not None:
            self._send(member, answer)
        self.record(ticket, computed.loss, receipt)
        starters = set(receipt.released)
        if current and member.leaving:
            self._dismiss(message.worker)
        elif current and (not alone or receipt.outcome in ("late", "spent")):
            starters.add(message.worker)
        return self._pull(starters)

    @_hear.register
    def _(self, message: Gone) -> None:
        self._lose(self.members[message.worker], message.reason)

    # What is done.

    def _was_sent(self, member: Member, number: int) -> bool:
        """Whether a worker may answer for a ticket of that number: none of the future, or that others are at."""
        assert member.ticket is not None
        others = {m.ticket.number for m in self.members.values() if m.ticket is not None and m is not member}
        return 0 <= number <= member.ticket.number and number not in others

    def _pull(self, workers: Iterable[int]) -> None:
        """For those who are idle; the others pull when they are."""
        for worker in sorted(workers):
            member = self.members[worker]
            if member.state != "idle" or self._stopping:
                continue
            ticket = self.server.pull(worker)
            self._note("pull", worker, **_of(ticket))
            if ticket is not None:
                self._send(member, ticket)

    def _send(self, member: Member, ticket: Ticket) -> None:
        member.ticket = ticket
        member.become("busy", self.now)
        member.sent = self.now
        self.fleet.send(member.worker, ticket)

    def _launch(self, worker: int) -> None:
        self.members[worker].become("starting", self.clock())
        self.members[worker].durations.clear()  # its first gradient may take as long as anybody's first
        self.fleet.start(worker)

    def _expire(self, member: Member) -> None:
        """Its batch goes to another one; a push that still comes is late."""
        assert member.ticket is not None
        member.become("silent", self.clock())
        version = self.server.version
        released = self.server.expire(member.ticket)
        self._note("expire", member.worker, ticket=member.ticket.number)
        self._flushed(version)
        self._pull(released)

    def _lose(self, member: Member, reason: str) -> None:
        """A worker is no more, or not to be trusted: its batch goes back, and it is started again, up to a limit."""
        self.fleet.kill(member.worker)
        member.failures = [*member.failures, reason][-KEPT:]
        for callback in self.callbacks:
            callback.on_incident(member.worker, reason)
        self._depart(member.worker, failed=True)
        again = member.restarts < self.patience.max_restarts and not member.leaving and not self._stopping
        member.restarts += again
        member.become("down" if again else "gone", self.clock())

    def _dismiss(self, worker: int) -> None:
        self.fleet.kill(worker)
        self._depart(worker, failed=False)
        self.members[worker].become("gone", self.clock())

    def _depart(self, worker: int, *, failed: bool) -> None:
        if worker not in self.server.workers:
            return
        version = self.server.version
        released = self.server.depart(worker, failed=failed)
        self._note("depart", worker, outcome="failed" if failed else "left")
        self._flushed(version)
        self._pull(set(released) - {worker})

    def _flushed(self, version: int) -> None:
        if self.server.version > version:
            self._note("flush", -1)

    def _note_push(self, kind: Kind, message: Arrived, ticket: Ticket, receipt: Receipt, answer: Ticket | None) -> None:
        got, began, ended = (moment - self._started for moment in message.times)
        about = {"ticket": ticket.number, "batch": ticket.batch, "lr": receipt.lr or 0.0, "outcome": receipt.outcome}
        about |= {"got": got, "began": began, "ended": ended, "reply": -1 if answer is None else answer.number}
        self._note(kind, message.worker, **about)
        for worker in receipt.cancelled:
            self._note("cancel", worker)

    def _note(self, kind: Kind, worker: int, **about: Any) -> None:
        self.log.add(self.now, kind, worker=worker, version=self.server.version, **about)


def _of(ticket: Ticket | None) -> dict[str, Any]:
    if ticket is None:
        return {"outcome": "waits"}
    return {"outcome": "issued", "ticket": ticket.number, "batch": ticket.batch}
