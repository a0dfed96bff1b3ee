"""Who may start, who waits, and what is held: a method's gate, admission and gather, over the ledger's tickets.

Only whole numbers here, no parameters: this is the part of a server that decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from unstale.errors import ArgumentError
from unstale.methods.base import Method
from unstale.methods.gate import Standing
from unstale.tickets import Entry, Ledger

__all__ = ["Desk"]

GONE = -1  # stands for a worker that left while its gradient was held
ENDLESS = 2**62


class Desk:
    """The workers alive, the tickets they have out, and whose gradients wait in the gather."""

    def __init__(self, method: Method, ledger: Ledger, workers: Iterable[int]) -> None:
        self.method = method
        self.ledger = ledger
        self.workers = set(workers)
        self.held: list[int] = []
        self.given: Counter[int] = Counter(dict.fromkeys(self.workers, 0))
        self.waiting: set[int] = set()

    def alive(self, worker: int) -> int:
        """``worker``, if it is one of those alive."""
        if isinstance(worker, bool) or not isinstance(worker, int) or worker not in self.workers:
            living = ", ".join(map(str, sorted(self.workers))) or "none"
            raise ArgumentError(
                f"worker must be one of those alive ({living}), got {worker!r}; a new one joins with join()"
            )
        return worker

    def join(self, worker: int | None) -> int:
        """A new worker, by the lowest free number or that one."""
        if worker is None:
            worker = next(n for n in range(len(self.workers) + 1) if n not in self.workers)
        if not isinstance(worker, int) or isinstance(worker, bool) or worker < 0 or worker in self.workers:
            raise ArgumentError(f"worker must be a number of at least 0 that is not in use, got {worker!r}")
        # A newcomer starts level with the slowest, or a bound on how far others may be ahead would wait for it.
        self.given[worker] = min((self.given[other] for other in self.workers), default=0)
        self.workers.add(worker)
        return worker

    def leave(self, worker: int, *, failed: bool) -> None:
        """A worker is gone; its batch goes back into the queue."""
        self.supersede(worker, failed=failed)
        self.ledger.queue.release(worker)
        self.workers.remove(worker)
        self.waiting.discard(worker)
        self.given.pop(worker, None)
        # What it gave still counts for its round, but its number may go to a newcomer who has given nothing.
        self.held = [GONE if giver == worker else giver for giver in self.held]

    def supersede(self, worker: int, *, failed: bool = False) -> None:
        """Take back what ``worker`` has out, if anything."""
        out = self.ledger.held_by(worker)
        if out is not None:
            (self.ledger.fail if failed else self.ledger.give_back)(out, void=True)

    def may_start(self, worker: int) -> bool:
        """Whether there is a batch, and the gate is open."""
        return bool(self._startable([worker]))

    def issue(self, worker: int, version: int) -> Entry:
        """The next batch for ``worker``."""
        self.waiting.discard(worker)
        return self.ledger.issue(worker, version)

    def accept(self, entry: Entry) -> tuple[int, bool]:
        """A gradient is taken in: how many are gathered with it, and whether they make an update."""
        self.ledger.accept(entry)
        self.given[entry.worker] += 1
        self.held.append(entry.worker)
        return self.gathered()

    def gathered(self) -> tuple[int, bool]:
        """How many are held, and whether they make an update; if so, they are held no longer.

        They do when they are enough, or when nothing more can come: a death or the end must not lock the gather.
        """
        count = len(self.held)
        enough = count >= self.method.gather.target(len(self.workers) + self.held.count(GONE))
        update = count > 0 and (enough or not (self.ledger.out or self._startable(self.workers)))
        if update:
            self.held.clear()
        return count, update

    def cancel_stale(self, version: int) -> tuple[int, ...]:
        """Void the tickets that the method gives up at ``version``; answers their workers."""
        if not self.method.admission.cancel(ENDLESS):
            return ()
        stale = [e for e in self.ledger.out.values() if self.method.admission.cancel(version - e.version)]
        for entry in stale:
            self.ledger.give_back(entry, void=True)
        return tuple(entry.worker for entry in stale)

    def released(self) -> tuple[int, ...]:
        """Workers that waited and may start now."""
        return self._startable(sorted(self.waiting)) if self.waiting else ()

    def _startable(self, workers: Iterable[int]) -> tuple[int, ...]:
        if not self.ledger.available:
            return ()
        gate, offers = self.method.gate, self.ledger.queue.offers
        # A worker for whom nothing is left must not hold up those that others are not to run ahead of.
        held, living = frozenset(self.held) - {GONE}, self.ledger.queue.employed(self.workers)
        return tuple(
            worker for worker in workers if offers(worker) and gate.open(Standing(worker, held, living, self.given))
        )

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {
            "ledger": self.ledger.state_dict(),
            "workers": sorted(self.workers),
            "held": list(self.held),
            "given": [[worker, count] for worker, count in sorted(self.given.items())],
            "waiting": sorted(self.waiting),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.ledger.load_state_dict(state["ledger"])
        self.workers, self.waiting = set(state["workers"]), set(state["waiting"])
        self.held, self.given = list(state["held"]), Counter(dict(state["given"]))
