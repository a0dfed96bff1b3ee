"""What a conductor knows of each worker, and how patient it is with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from unstale import checks
from unstale.callbacks import in_short
from unstale.describe import Plain
from unstale.errors import RunError
from unstale.measure import Receipt
from unstale.tickets import Ticket

__all__ = ["AWAY", "Member", "Patience", "all_gone"]

RECENT = 16  # of a worker's own durations, by which it is told that it takes too long
DOUBLINGS = 7  # of the time before a restart

_KEPT = ("worker", "pushes", "accepted", "dropped", "late", "delays", "restarts", "failures", "leaving")

State = Literal["waiting", "absent", "starting", "idle", "busy", "silent", "down", "gone"]
"""waiting: for room to start. absent: for so long that it is not counted on meanwhile. silent: its ticket was taken
from it. down: it will be started again. gone: it will not."""
AWAY = ("waiting", "absent", "down", "gone")
"""States of workers that there are not."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """What is done about workers that fail, or are not heard of.

    max_restarts: how often each is started again; after that, training goes on without it.
    back_off: seconds before the first restart; twice as many before each further one, up to 128 times as many.
    slowness: a worker is silent when a gradient takes this many times the longest of its recent ones, and at least
        ``floor`` seconds: its batch goes to another one. When it takes as long again, it is killed and started anew;
        at once, if somebody was silent over that batch before, which then counts as a failure of the batch.
    starting: seconds that a worker may take to start, and to compute its first gradient. While a cluster has no room
        for it, it waits for as long as it takes; after ``floor`` seconds the others go on without it until it comes.
    grace: seconds that gradients under way have when a run is stopped.
    """

    max_restarts: int = 3
    back_off: float = 0.5
    slowness: float = 20.0
    floor: float = 10.0
    starting: float = 120.0
    grace: float = 10.0

    def __post_init__(self) -> None:
        checks.whole("max_restarts", self.max_restarts, 0)
        for name in ("back_off", "grace"):
            checks.nonnegative(name, getattr(self, name))
        for name in ("slowness", "floor", "starting"):
            checks.positive(name, getattr(self, name))


@dataclass
class Member:
    """One worker, by number; over all its restarts."""

    worker: int
    state: State = "starting"
    since: float = 0.0
    """When the state began, in seconds of the run."""
    sent: float = 0.0
    """When it was sent its ticket."""
    ticket: Ticket | None = None
    """What it was sent last, also when that counts no longer."""
    pushes: int = 0
    accepted: int = 0
    dropped: int = 0
    late: int = 0
    delays: int = 0
    restarts: int = 0
    failures: list[str] = field(default_factory=list)
    """Why it was lost, the last few times."""
    durations: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    longest: float = 0.0
    """Of these."""
    leaving: bool = False

    def become(self, state: State, now: float) -> None:
        """Change state."""
        self.state, self.since = state, now

    def begin(self, ticket: Ticket, now: float) -> None:
        """It is sent a ticket."""
        self.ticket, self.sent = ticket, now
        self.become("busy", now)

    def excuse(self, seconds: float, now: float) -> None:
        """It could not be heard for so long, until now, and that is not its fault."""
        self.since, self.sent = min(self.since + seconds, now), min(self.sent + seconds, now)

    def count(self, receipt: Receipt, now: float) -> None:
        """It pushed."""
        self.pushes += 1
        self.durations.append(now - self.sent)
        self.longest = max(self.durations)
        if receipt.outcome in ("applied", "held"):
            self.accepted += 1
            self.delays += receipt.delay or 0
        elif receipt.counted:
            self.dropped += 1
        else:
            self.late += 1

    def deadline(self, patience: Patience) -> float | None:
        """When it must have been heard of; None where nothing is expected."""
        if self.state in ("starting", "busy", "silent"):
            known = self.durations and self.state != "starting"
            allowed = max(patience.floor, patience.slowness * self.longest) if known else patience.starting
            return self.since + allowed
        if self.state == "waiting":
            return self.since + patience.floor
        if self.state == "down":
            return self.since + patience.back_off * 2.0 ** min(self.restarts - 1, DOUBLINGS)
        return None

    def state_dict(self) -> dict[str, Any]:
        """What outlives the process of the server."""
        return {"state": self.state, **{name: getattr(self, name) for name in _KEPT}}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Member:
        """A member as it was; it has yet to be started. One that had used up its restarts may try them anew."""
        member = cls(state=state["state"], **{name: state[name] for name in _KEPT})
        if member.state == "gone" and not member.leaving:
            member.state, member.restarts = "down", 0
        return member

    def report(self) -> dict[str, Plain]:
        """In numbers."""
        return {
            "worker": self.worker,
            "state": self.state,
            "pushes": self.pushes,
            "accepted": self.accepted,
            "mean_delay": self.delays / self.accepted if self.accepted else 0.0,
            "mean_seconds": sum(self.durations) / len(self.durations) if self.durations else 0.0,
            "restarts": self.restarts,
            "dropped": self.dropped,
            "late": self.late,
            "failures": list(self.failures),
        }


def all_gone(members: Iterable[Member], pushes: int, patience: Patience) -> RunError:
    """Why nobody is left, in one line; the tracebacks are its notes."""
    found: dict[str, list[Member]] = {}
    for member in members:
        if member.failures:
            found.setdefault(in_short(member.failures[-1]), []).append(member)
    told = [f"worker {', '.join(str(m.worker) for m in same)}: {reason}" for reason, same in found.items()]
    error = RunError(
        f"all workers are gone after {pushes} pushes, and none may be started again "
        f"(max_restarts={patience.max_restarts}); {'; '.join(told) or 'they were dismissed'}"
    )
    for reason, (first, *_) in found.items():
        if first.failures[-1].strip() != reason:
            error.add_note(f"worker {first.worker}: {first.failures[-1]}")
    return error
