"""Asynchronous training by scripts that connect: a server, in this process, that waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from unstale.callbacks import Callback, StopRun
from unstale.checkpoint import Checkpoints
from unstale.engines.base import versions
from unstale.engines.keeping import opened
from unstale.engines.live.books import Books
from unstale.engines.live.fleet import Arrived, Asked, Gone, Up
from unstale.engines.live.members import Member, Patience
from unstale.engines.live.scripts.answering import Callers, Heard
from unstale.engines.live.scripts.likeness import Likeness
from unstale.engines.live.scripts.terms import Terms
from unstale.engines.live.scripts.trained import Trained
from unstale.engines.live.scripts.visited import Visited
from unstale.errors import ArgumentError, Interrupted
from unstale.events import EventLog
from unstale.record import Run
from unstale.recorder import Recorder

__all__ = ["Serving"]


class Serving(Visited):
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
        self.trained: Trained | None = None
        self.recorder = Recorder()
        self._failure = ""
        self.now = 0.0
        self._keeper, state = opened(checkpoints, resume, terms, self.engine)
        if state is not None:
            self.load_state_dict(state)
        if model is not None:
            self._settle(likeness := Likeness.of(model), lambda: likeness.twin(model))
        self.fleet: Callers = door()

    # The loop.

    def run(self) -> Run:
        """Until every batch is accepted, or until it is stopped. Raises `StoreError` as `Training.run`."""
        with self._keeper.alone():
            return self._run()

    def _run(self) -> Run:
        self._keeper.begin()
        try:
            while not self._over():
                for message in self.fleet.wait(self._seconds_left()):
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
        return 0.0 if self.trained is None else self.trained.server.progress

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
        return {
            **({} if self.trained is None else self.trained.state_dict()),
            "recorder": self.recorder.state_dict(),
            "now": self.clock(),
            "events": self.log.next,
            "members": [self.members[worker].state_dict() for worker in sorted(self.members)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, as soon as scripts have come again: those of before end with their server."""
        if "likeness" in state:
            self._train(Trained.of(state, self.terms, self._point))
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
        return self.trained is not None and self.trained.server.finished

    def _end(self, status: str) -> Run:
        seconds, params = self.clock(), dict[str, Tensor]()
        if self.trained is not None:
            server, params = self.trained.server, self.trained.params()
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
            quarantined=() if self.trained is None else self.trained.server.quarantined,
            members=tuple(self._reports()),
            events=self.log.closing(),
        )
        for callback in self.callbacks:
            callback.on_end(run)
        return run

    # What is heard.

    def _hear(self, message: Heard) -> None:
        match message:
            case Arrived():
                self._on_arrived(message)
            case Asked():
                self._on_asked(message)
            case Up():
                self._on_up(message)
            case Gone():
                self._on_gone(message)

    def _on_up(self, message: Up) -> None:
        worker, likeness = message.worker, self.fleet.likeness(message.worker)
        try:
            self._settle(likeness, lambda: self.fleet.model(worker))
        except ArgumentError as error:
            return self.fleet.refuse(worker, str(error))
        if worker in self.members:
            self.members[worker].restarts += 1
        member = self.members.setdefault(worker, Member(worker))
        member.ticket = None
        self._join(member)
        self.fleet.welcome(worker, [layer.name for layer in self.books.server.layout.layers])
        return self._begin_or_pull(worker)

    def _on_asked(self, message: Asked) -> None:
        member = self.members.get(message.worker)
        if member is None:
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

    def _on_arrived(self, message: Arrived) -> None:
        member, now = self.members.get(message.worker), self.clock()
        if member is None:
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

    def _on_gone(self, message: Gone) -> None:
        if message.worker in self.members:
            self._depart(self.members[message.worker], message.reason, failed=bool(message.reason))
        self.fleet.forget(message.worker)

    # What is done.

    def _settle(self, likeness: Likeness, model: Callable[[], nn.Module]) -> None:
        """Have a model be what is trained, or if that is known, be like it. Raises `ArgumentError` if it cannot be."""
        if self.trained is not None:
            return self.trained.check(likeness)
        self.clock()
        self._train(Trained(self.terms, likeness, model(), self._point))
        for worker in self.books.server.workers:
            self.books.join(worker)
        return None

    def _train(self, trained: Trained) -> None:
        self.trained = trained
        self.books = Books(trained.server, self.log, lambda: self.now, self._since_start)

    def _point(self, worker: int) -> Tensor:
        return self.fleet.point(worker)
