"""What is asked, from other threads, of a loop that serves real workers: to be looked at, to do something, to end."""

from __future__ import annotations

import math
import queue
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol

from unstale.callbacks import Callback
from unstale.describe import Plain
from unstale.engines.live.members import AWAY, Member, Patience
from unstale.record import Run
from unstale.recorder import Recorder

__all__ = ["TICK", "Steered"]

TICK = 1.0  # seconds; the longest wait without a look around
KEPT = 3  # reasons of failures, for each worker


class _Wakes(Protocol):
    def wake(self) -> None: ...


class Steered(ABC):
    """A loop that hears of its ``members``; ``now`` is its time, in seconds. All but `ask` belongs to its thread."""

    fleet: _Wakes
    recorder: Recorder
    callbacks: tuple[Callback, ...]
    now: float

    def steer(self, patience: Patience) -> None:
        """From the start: nothing is asked yet."""
        self.patience = patience
        self.members: dict[int, Member] = {}
        self.signal = 0
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping, self._halt = "", 0.0
        self._zero = time.monotonic()
        self._expected = math.inf  # when the first member must have been heard of, as of the last wait

    @abstractmethod
    def run(self) -> Run:
        """To the end, or as far as it gets."""

    @abstractmethod
    def close(self) -> None:
        """Leave nothing behind."""

    @abstractmethod
    def checkpoint(self) -> None:
        """Write one now. Raises `ArgumentError` where there is no place for it."""

    @property
    @abstractmethod
    def progress(self) -> float:
        """Epochs of data accepted."""

    def ask(self, what: Callable[[], None]) -> None:
        """From any thread: have it done between two pushes."""
        self._asked.put(what)
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
        return {
            "seconds": seconds,
            "progress": self.progress,
            "pushes": self.recorder.pushes,
            "pushes_per_second": self.recorder.pushes / seconds if seconds else 0.0,
            "alive": sum(member.state not in AWAY for member in self.members.values()),
            "workers": list[Plain](self._reports()),
        }

    def clock(self) -> float:
        """Seconds since the start; also the time of what is recorded now."""
        self.now = self._since_start(time.monotonic())
        return self.now

    def _since_start(self, moment: float) -> float:
        """A moment of the monotonic clock in seconds since the start."""
        return moment - self._zero

    def _do_what_is_asked(self) -> None:
        while not self._asked.empty():
            self._asked.get()()

    def _may_end(self) -> bool:
        """Once it is stopping: whether nothing is under way any more, or has had its time."""
        return not any(member.state == "busy" for member in self.members.values()) or self.clock() > self._halt

    def _deadline(self, member: Member) -> float | None:
        """When it must have been heard of, in seconds of the run; None where nothing is expected."""
        return member.deadline(self.patience)

    def _overdue(self, moment: float) -> Iterator[Member]:
        """Those who should have been heard of by then; what is done about one may change another."""
        if self._expected > moment:  # what has become due since is so at the next wait, which ends at once
            return
        for member in list(self.members.values()):
            deadline = self._deadline(member)
            if deadline is not None and deadline <= moment:
                yield member

    def _seconds_left(self) -> float:
        """Until the next one must have been heard of, or the grace is over; a `TICK` at most."""
        now = self.clock()
        deadlines = (self._deadline(member) for member in self.members.values())
        self._expected = min((moment for moment in deadlines if moment is not None), default=math.inf)
        until = min(self._expected, self._halt) if self._stopping else self._expected
        return max(0.0, min(TICK, until - now))

    def _note_failure(self, member: Member, reason: str) -> None:
        """For the report, and for those who look on."""
        member.failures = [*member.failures, reason][-KEPT:]
        for callback in self.callbacks:
            callback.on_incident(member.worker, reason)

    def _reports(self) -> list[dict[str, Plain]]:
        return [self.members[worker].report() for worker in sorted(self.members)]
