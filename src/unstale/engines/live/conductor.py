"""Asynchronous training on real workers: one server, in this process, and a fleet of workers that come and go.

Nothing here knows what a worker is: a process, or an actor on another machine. Every call of the server is an event in
the log, in the order in which it was made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from unstale.callbacks import Callback, StopRun
from unstale.describe import Plain
from unstale.engines.base import Plan
from unstale.engines.gradients.precision import tensor_cores
from unstale.engines.live.books import Books
from unstale.engines.live.fleet import Arrived, Fleet, Gone, Message, Placed, Up
from unstale.engines.live.members import Member, Patience, all_gone
from unstale.engines.live.staffed import Staffed
from unstale.engines.live.steered import TICK
from unstale.engines.training import WALL, Training
from unstale.errors import ArgumentError
from unstale.events import EventLog
from unstale.record import Run
from unstale.server import Server
from unstale.tickets import Ticket

__all__ = ["Conductor"]


class Conductor(Training, Staffed):
    """Drives a run: hears of workers, calls the server, notes what happened, and does what is asked of it meanwhile."""

    def __init__(
        self,
        plan: Plan,
        fleet: Callable[[Plan, Server], Fleet],
        patience: Patience,
        log: EventLog,
        callbacks: tuple[Callback, ...] = (),
        engine: str = "processes",
        server: Callable[..., Server] = Server,
    ) -> None:
        super().__init__(plan, callbacks, server)
        self.log, self.engine = log, engine
        self.fleet: Fleet = fleet(plan, self.server)
        self.steer(patience)
        self.books = Books(self.server, log, lambda: self.now, self._since_start)
        self._resumed: dict[int, Ticket] | None = None
        self._told = 0.0

    @property
    def progress(self) -> float:
        """See `Steered`."""
        return self.server.progress

    # The loop.

    def run(self, let_through: Callable[[], None] = lambda: None) -> Run:
        """See `Training`."""
        with tensor_cores(self.plan):
            return super().run(let_through)

    def train(self, let_through: Callable[[], None]) -> None:
        """See `Training`."""
        self._begin()
        while not self._over():
            let_through()
            self._do_what_is_asked()
            for message in self._listen():
                # It may have been given up since, for what else it said.
                if self.members[message.worker].state not in ("down", "gone"):
                    self._hear(message)
                    self.evaluate_if_due()
                    self.keep_if_due()
                    self._excuse()
            self._look_around()
            self._tell()
            self.log.write_if_due()
        if self._stopping:
            raise KeyboardInterrupt if self._stopping == "interrupted" else StopRun

    def _begin(self) -> None:
        if self._resumed is None:
            for worker in self.server.workers:
                self.books.join(worker)
                self.members[worker] = Member(worker)
        for worker, member in self.members.items():
            if member.state not in ("down", "gone"):  # for the former there is a time to be started again
                self._launch(worker)
        self.whole = True

    def state_dict(self) -> dict[str, Any]:
        """See `Training`; and how far the log is, of which all is on the disk then."""
        self.log.write()
        members = [self.members[worker].state_dict() for worker in sorted(self.members)]
        return {**super().state_dict(), "now": self.clock(), "events": self.log.next, "members": members}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: the same workers, under new processes, with the tickets that they had."""
        super().load_state_dict(state)
        self._zero = time.monotonic() - self.now
        self.members = {found["worker"]: Member.of(found) for found in state["members"]}
        self._resumed = {ticket.worker: ticket for ticket in self.server.outstanding()}
        self.log.go_on(self.now, state["events"])

    def checkpoint(self) -> None:
        """See `Steered`."""
        self._keeper.keep_now(self)

    def extras(self) -> dict[str, Any]:
        """See `Training`."""
        return {"members": tuple(self._reports()), "events": self.log.closing()}

    def close(self) -> None:
        """End the fleet."""
        self.fleet.close()

    def means(self) -> dict[str, Plain]:
        """See `Training`."""
        return {"strategy": "sequential", "strategy_reason": "as each worker computes", "clock": WALL}

    def _over(self) -> bool:
        if self._stopping:
            return self._may_end()
        if self.server.finished:
            return True
        if all(m.state == "gone" for m in self.members.values()):
            raise all_gone(self.members.values(), self.recorder.pushes, self.patience)
        return False

    def _tell(self) -> None:
        """Those who look on, now and then."""
        if self.callbacks and self.clock() - self._told >= TICK:
            self._told, stats = self.now, self.stats()
            for callback in self.callbacks:
                callback.on_stats(stats)

    # What is heard.

    def _hear(self, message: Message) -> None:
        match message:
            case Arrived():
                self._on_arrived(message)
            case Up():
                self._on_up(message)
            case Placed():
                self._on_placed(message)
            case Gone():
                self._on_gone(message)

    def _on_placed(self, message: Placed) -> None:
        self.members[message.worker].become("starting", self.clock())

    def _on_up(self, message: Up) -> None:
        member = self.members[message.worker]
        if message.worker not in self.server.workers:
            self.books.join(message.worker)
        member.become("idle", self.clock())
        ticket = (self._resumed or {}).pop(message.worker, None)
        if ticket is not None and self.server.counts(ticket):
            self._send(member, ticket)
        else:
            self._pull([message.worker])

    def _on_arrived(self, message: Arrived) -> None:
        member, now = self.members[message.worker], self.clock()
        ticket = member.ticket
        if ticket is None or not self._was_sent(member, message.number):
            return self._lose(member, "it sent a gradient that nobody had asked for")
        # Any other is late, or came twice, which the ledger knows; its worker is still at what it is at.
        current = message.number == ticket.number and member.state in ("busy", "silent")
        ticket = ticket if current else ticket.renumbered(message.number)
        alone = not (self.server.waiting or member.leaving or self._stopping) and current
        self.whole = False
        try:
            receipt, answer = self.books.push(message, ticket, pull=alone)
        except ArgumentError as error:
            return self._lose(member, str(error))
        member.count(receipt, now)
        if current:
            member.become("idle", now)
        if answer is not None:
            self._send(member, answer)
        self.record(ticket, message.computed.loss, receipt)
        starters = set(receipt.released)
        if current and member.leaving:
            self._dismiss(message.worker)
        elif current and not (alone and receipt.counted):
            starters.add(message.worker)
        return self._pull(starters)

    def _on_gone(self, message: Gone) -> None:
        self._lose(self.members[message.worker], message.reason)

    def _was_sent(self, member: Member, number: int) -> bool:
        """Whether a worker may answer for a ticket of that number: none of the future, or that others are at."""
        assert member.ticket is not None
        if number == member.ticket.number:
            return True
        others = {m.ticket.number for m in self.members.values() if m.ticket is not None and m is not member}
        return 0 <= number <= member.ticket.number and number not in others
