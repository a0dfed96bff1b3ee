"""A real run once more, in the simulator: the same calls of the server in the same order, or the same arrivals under
another method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch

from unstale.callbacks import Callback, StopRun
from unstale.engines.base import Plan
from unstale.engines.clipping import clipped
from unstale.engines.gradients.base import Computed, Job, hand_in
from unstale.engines.gradients.one_by_one import OneByOne, one_thread
from unstale.engines.gradients.precision import tensor_cores
from unstale.engines.interrupts import interrupts_held
from unstale.engines.training import WALL, Training
from unstale.errors import RunError
from unstale.events import Event
from unstale.measure import VOID
from unstale.record import Run
from unstale.tickets import Ticket

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["arrivals", "repeat"]


def repeat(plan: Plan, events: pd.DataFrame, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Make every call of the log again. On the same kind of processor it ends with the same parameters, to the bit.

    Raises `RunError` where the server answers otherwise than it did: then ``plan`` is not that of the run.
    """
    return _run(_Repeat(plan, events, callbacks))


def arrivals(plan: Plan, events: pd.DataFrame, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Gradients arrive, and workers come and go, when they did in the log; what is done with them is the plan's.

    A worker that has nothing to hand in when its gradient arrived, because ``plan.method`` had it wait, loses that
    one. The run ends with the log: "stopped", if batches are left then.
    """
    return _run(_Arrivals(plan, events, callbacks))


def _run(replay: _Replay) -> Run:
    with one_thread(), tensor_cores(replay.plan), interrupts_held() as let_through:
        return replay.run(let_through)


class _Replay(Training):
    engine = "replay"

    def __init__(self, plan: Plan, events: pd.DataFrame, callbacks: tuple[Callback, ...]) -> None:
        super().__init__(plan, callbacks)
        self._events = events
        self._computer = OneByOne(plan, self.module, self.server.layout)
        self._out: dict[int, Ticket] = {}
        self._calls: dict[str, Callable[[Event], None]] = {
            "join": self._join,
            "pull": self._pull,
            "exchange": self._push,
            "push": self._push,
            "depart": self._depart,
            "expire": self._expire,
        }

    def means(self) -> dict[str, Any]:
        """See `Training`."""
        return {"strategy": "sequential", "strategy_reason": "as its workers computed", "clock": WALL}

    def train(self, let_through: Callable[[], None]) -> None:
        """See `Training`."""
        for row in self._events.itertuples(index=False):
            let_through()
            event = Event(*row)
            self.now = event.time
            if event.kind in self._calls:
                self._calls[event.kind](event)
                self.evaluate_if_due()
        if not self.server.finished:
            raise StopRun

    def _join(self, event: Event) -> None:
        if event.worker not in self.server.workers:
            self.server.join(event.worker)

    def _pull(self, event: Event) -> None:
        raise NotImplementedError

    def _push(self, event: Event) -> None:
        raise NotImplementedError

    def _depart(self, event: Event) -> None:
        raise NotImplementedError

    def _expire(self, event: Event) -> None:
        raise NotImplementedError

    def _hold(self, worker: int, ticket: Ticket | None) -> None:
        if ticket is None:
            self._out.pop(worker, None)
        else:
            self._out[worker] = ticket

    def _computed(self, ticket: Ticket) -> Computed:
        return clipped(self._computer.compute([Job(ticket, None)])[0], self.plan.clip)


class _Repeat(_Replay):
    """Call by call."""

    def _hold(self, worker: int, ticket: Ticket | None) -> None:
        # What a worker had last is what a push that comes twice is told by.
        if ticket is not None:
            self._out[worker] = ticket

    def _pull(self, event: Event) -> None:
        ticket = self.server.pull(event.worker)
        self._same(event, "ticket", event.ticket, -1 if ticket is None else ticket.number)
        self._hold(event.worker, ticket)

    def _push(self, event: Event) -> None:
        ticket = self._out[event.worker]
        if event.ticket != ticket.number:
            ticket = ticket.renumbered(event.ticket)
        computed = Computed(float("nan"), torch.empty(0), {})
        useless = event.outcome in VOID
        if not useless:
            computed = self._computed(ticket)
        if event.outcome == "rejected":  # whatever was wrong with it then
            computed.gradient.fill_(torch.nan)
        alone = event.kind == "exchange"
        receipt, answer = hand_in(self.server, ticket, computed, None if useless else event.lr, pull=alone)
        self._same(event, "outcome", event.outcome, receipt.outcome)
        self._same(event, "version", event.version, receipt.version)
        if alone and not useless:
            self._same(event, "reply", event.reply, -1 if answer is None else answer.number)
            self._hold(event.worker, answer)
        self.record(ticket, computed.loss, receipt)

    def _depart(self, event: Event) -> None:
        self.server.depart(event.worker, failed=event.outcome == "failed")

    def _expire(self, event: Event) -> None:
        self.server.expire(self._out[event.worker])

    def _same(self, event: Event, name: str, logged: object, found: object) -> None:
        if logged != found:
            raise RunError(
                f"event {event.seq} ({event.kind}, worker {event.worker}): its {name} was {logged}, and is {found} "
                "now; replay a run with the task, method and settings that it had"
            )


class _Arrivals(_Replay):
    """As a cluster would go on by itself: who is free pulls."""

    def _pull(self, event: Event) -> None:
        if event.worker not in self.server.waiting:
            self._start([event.worker])

    def _push(self, event: Event) -> None:
        worker = event.worker
        ticket = self._out.get(worker)
        if ticket is None or event.outcome == "spent":
            return
        alone = not self.server.waiting
        computed = self._computed(ticket)
        receipt, answer = hand_in(self.server, ticket, computed, pull=alone)
        self._hold(worker, answer)
        self.record(ticket, computed.loss, receipt)
        late = receipt.outcome == "late"
        self._start({*receipt.released, *([worker] if late or not alone else [])})

    def _depart(self, event: Event) -> None:
        self._out.pop(event.worker, None)
        self._start(self.server.depart(event.worker, failed=event.outcome == "failed"))

    def _expire(self, event: Event) -> None:
        if event.worker in self._out:
            self._start(self.server.expire(self._out[event.worker]))

    def _start(self, workers: Iterable[int]) -> None:
        for worker in sorted(workers):
            if worker not in self._out:
                self._hold(worker, self.server.pull(worker))
