"""Asynchronous training by scripts that connect: a server, in this process, that waits for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unstale.callbacks import Callback, StopRun
from unstale.checkpoint import Checkpoints
from unstale.engines.base import versions
from unstale.engines.evaluate import named_tensors
from unstale.engines.keeping import opened
from unstale.engines.live.answering import Callers, Heard
from unstale.engines.live.books import Books
from unstale.engines.live.fleet import Arrived, Asked, Gone, Up
from unstale.engines.live.likeness import Likeness
from unstale.engines.live.members import Member, Patience
from unstale.engines.live.steered import TICK, Steered
from unstale.engines.live.terms import Terms
from unstale.errors import ArgumentError, Interrupted
from unstale.events import EventLog
from unstale.record import Run
from unstale.recorder import Recorder
from unstale.tickets import Ticket

__all__ = ["Serving"]


class Serving(Steered):
    """Hears of scripts, calls the server, and notes what happened. Starts none, and restarts none."""

    engine = "connect"

    def __init__(
        self,
        terms: Terms,
        door: Callable[[], Callers],
        patience: Patience,
        log: EventLog,
        callbacks: tuple[Callback, ...] = (),
        model: nn.Module | None = None,
        checkpoints: Checkpoints | None = None,
        resume: Path | None = None,
    ) -> None:
        self.terms, self.log, self.callbacks = terms, log, callbacks
        self.steer(patience)
        self.books: Books | None = None
        self.recorder = Recorder()
        self._failure = ""
        self.now = 0.0
        self._asking: set[int] = set()
        self._begun = False
        self._keeper, state = opened(checkpoints, resume, terms, self.engine)
        if state is not None:
            self.load_state_dict(state)
        if model is not None:
            self._settle(likeness := Likeness.of(model), lambda: likeness.twin(model))
        self.fleet: Callers = door()

    # The loop.

    def run(self) -> Run:
        """Until every batch is accepted, or until it is stopped."""
        self._keeper.begin()
        try:
            while not self._over():
                for message in self.fleet.wait(self._wait()):
                    if self.fleet.knows(message.worker):
                        self._hear(message)
                        self._keeper.look(self)
                self._look_around()
                self._do_what_is_asked()
                self.log.write_if_due()
        except StopRun:
            self._stopping = "stopped"
        except Exception as error:
            self._failure = f"it failed ({type(error).__name__}: {error})"
            self._end("failed")
            raise
        self._keeper.keep(self)
        run = self._end(self._stopping or "finished")
        if self._stopping == "interrupted":
            raise Interrupted(run)
        return run

    @property
    def progress(self) -> float:
        """See `Steered`."""
        return 0.0 if self.books is None else self.books.server.progress

    @property
    def plan(self) -> Terms:
        """See `Keepable`."""
        return self.terms

    def checkpoint(self) -> None:
        """See `Steered`."""
        self._keeper.keep_now(self)

    def state_dict(self) -> dict[str, Any]:
        """See `Keepable`; and how far the log is, of which all is on the disk then."""
        self.log.write()
        trained: dict[str, Any] = {}
        if self.books is not None:
            trained = {"likeness": asdict(self._likeness), "initial": dict(self._model.named_buffers())}
            trained["server"] = self.books.server.state_dict()
        return {
            **trained,
            "recorder": self.recorder.state_dict(),
            "now": self.clock(),
            "events": self.log.next,
            "members": [self.members[worker].state_dict() for worker in sorted(self.members)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, as soon as scripts have come again: those of before end with their server."""
        if "likeness" in state:
            likeness = Likeness.unpacked(json.dumps(state["likeness"]).encode())
            self._train(
                likeness, likeness.build(torch.zeros(likeness.size, dtype=likeness.kind), state["initial"])
            ).server.load_state_dict(state["server"])
        self.recorder.load_state_dict(state["recorder"])
        self.now, self._zero = state["now"], time.monotonic() - state["now"]
        for found in state["members"]:
            self.members[found["worker"]] = member = Member.of(found)
            member.become("gone", self.now)
        self.log.go_on(self.now, state["events"])

    def close(self) -> None:
        """See `Steered`."""
        self.fleet.close(self._failure)
        self._do_what_is_asked()

    def _over(self) -> bool:
        if self._stopping:
            return self._may_end()
        return self.books is not None and self.books.server.finished

    def _wait(self) -> float:
        deadlines = [d for m in self.members.values() if (d := self._deadline(m)) is not None]
        deadlines += [self._halt] if self._stopping else []
        return max(0.0, min([TICK, *(deadline - self.clock() for deadline in deadlines)]))

    def _deadline(self, member: Member) -> float | None:
        """One that neither asks nor computes may take its time, but others may have to wait for it."""
        if member.state == "idle":
            return None if member.worker in self._asking else member.since + self.patience.starting
        return member.deadline(self.patience)

    def _look_around(self) -> None:
        """At those who should have been heard of: first their batches go to others, then they are counted on no more.

        They may still come back.
        """
        now = self.clock()
        for member in self.members.values():
            deadline = self._deadline(member)
            if deadline is None or deadline > now:
                continue
            if member.state == "busy":
                assert member.ticket is not None
                assert self.books is not None
                member.become("silent", now)
                self._pull(self.books.expire(member.ticket))
            else:
                self._depart(member, f"nothing was heard of it for {now - member.since:.0f} s", failed=False)

    def _end(self, status: str) -> Run:
        seconds, params = self.clock(), dict[str, Any]()
        if self.books is not None:
            server = self.books.server
            server.load_into(self._model)
            params = named_tensors(self._model)
            for worker in () if self._failure else self.members:
                self.fleet.show(worker, server.params, server.buffers.current(), last=True)
        run = Run(
            config={**self.terms.describe(), "engine": self.engine, "versions": versions()},
            history=self.recorder.history(),
            evaluations=self.recorder.evaluations(),
            params=params,
            status=status,
            seconds=seconds,
            cancelled=self.recorder.cancelled,
            quarantined=() if self.books is None else self.books.server.quarantined,
            members=tuple(self._reports()),
            events=self.log.closing(),
        )
        for callback in self.callbacks:
            callback.on_end(run)
        return run

    # What is heard.

    @singledispatchmethod
    def _hear(self, message: Heard) -> None:
        raise NotImplementedError

    @_hear.register
    def _(self, message: Up) -> None:
        worker, likeness = message.worker, self.fleet.likeness(message.worker)
        try:
            self._settle(likeness, lambda: self.fleet.model(worker))
        except ArgumentError as error:
            return self.fleet.refuse(worker, str(error))
        assert self.books is not None
        if worker in self.members:
            self.members[worker].restarts += 1
        member = self.members.setdefault(worker, Member(worker))
        member.ticket = None
        self._join(member)
        self.fleet.welcome(worker, [layer.name for layer in self.books.server.layout.layers])
        return self._begin_or_pull(worker)

    @_hear.register
    def _(self, message: Asked) -> None:
        member = self.members.get(message.worker)
        if member is None or self.books is None:
            return
        if message.what == "ticket":
            if member.state == "gone":
                self._join(member)
            member.become("idle", self.clock())
            self._asking.add(member.worker)
            self._begin_or_pull(member.worker)
        elif member.state == "busy":
            self._lose(member, "it asked for θ in the middle of a ticket")
        else:
            self.fleet.show(member.worker, self.books.server.params, self.books.server.buffers.current())

    @_hear.register
    def _(self, message: Arrived) -> None:
        member, now = self.members.get(message.worker), self.clock()
        if member is None or self.books is None:
            return None
        ticket = member.ticket
        if ticket is None:
            return self._lose(member, "it sent a gradient that nobody had asked for")
        current = message.number == ticket.number
        ticket = ticket if current else ticket.renumbered(message.number)
        try:
            receipt, _ = self.books.push(message, ticket, pull=False)
        except ArgumentError as error:
            return self._lose(member, str(error))
        member.count(receipt, now)
        if current and member.state != "gone":
            member.become("idle", now)
        self.fleet.tell(member.worker, receipt)
        row = self.recorder.push(now, ticket, message.computed.loss, receipt)
        for callback in self.callbacks:
            callback.on_push(row)
        return self._pull(receipt.released)

    @_hear.register
    def _(self, message: Gone) -> None:
        if message.worker in self.members:
            self._depart(self.members[message.worker], message.reason, failed=bool(message.reason))
        self.fleet.forget(message.worker)

    # What is done.

    def _settle(self, likeness: Likeness, model: Callable[[], nn.Module]) -> None:
        """Have a model be what is trained, or if that is known, be like it. Raises `ArgumentError` if it cannot be."""
        if self.books is None:
            self.clock()
            books = self._train(likeness, model())
            for worker in books.server.workers:
                books.join(worker)
        elif difference := self._likeness.difference(likeness):
            raise ArgumentError(f"model must be like the server's, but {difference}; build the same in every script")

    def _train(self, likeness: Likeness, model: nn.Module) -> Books:
        server = self.terms.server(model)
        if likeness.kind.itemsize >= 4:
            server.place_points(lambda worker: self.fleet.point(worker))
        self._likeness, self._model = likeness, model
        self.books = Books(server, self.log, lambda: self.now, self._since_start)
        return self.books

    def _begin_or_pull(self, worker: int) -> None:
        """The first batch is handed out when as many workers as were announced have come."""
        if self._begun:
            return self._pull([worker])
        here = [member.worker for member in self.members.values() if member.state != "gone"]
        if len(here) < self.terms.workers:
            return None
        assert self.books is not None
        self._begun = True
        for worker in self.books.server.workers:
            if worker not in here:
                self.books.depart(worker, failed=False)
        return self._pull(self._asking.copy())

    def _join(self, member: Member) -> None:
        assert self.books is not None
        now = self.clock()
        if member.worker not in self.books.server.workers:
            self.books.join(member.worker)
        member.become("idle", now)

    def _pull(self, workers: Iterable[int]) -> None:
        """For those who asked; the others pull when they do."""
        assert self.books is not None
        for worker in sorted(self._asking.intersection(workers)):
            if self._stopping:
                return
            ticket = self.books.pull(worker)
            if ticket is not None:
                self._send(worker, ticket)

    def _send(self, worker: int, ticket: Ticket) -> None:
        assert self.books is not None
        self._asking.discard(worker)
        self.members[worker].ticket = ticket
        self.members[worker].become("busy", self.now)
        self.members[worker].sent = self.now
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
        assert self.books is not None
        if member.worker in self.books.server.workers:
            self._pull(self.books.depart(member.worker, failed=failed))
