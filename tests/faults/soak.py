"""Many random kills over a long run lose nothing: ``python -m tests.faults.soak --kills 200``.

Prints what happened; fails if a law is broken, or memory or descriptors grow.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import unstale
from tests.engines.problems import trained
from tests.faults.inject import At, ended, started
from unstale.clocks import Gamma
from unstale.engines.live.processes import Processes


class RandomKills(At):
    """Kills any worker that there is, in whatever state, at random pushes; signals are as random."""

    def __init__(self, kills: int, seed: int, chance: float = 0.1) -> None:
        super().__init__()
        self.left, self.chance = kills, chance
        self.random = random.Random(seed)
        self.descriptors: list[int] = []

    def on_push(self, row: Mapping[str, Any]) -> None:
        assert self.live is not None
        fleet = self.live._conductor.fleet
        assert isinstance(fleet, Processes)
        self.descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
        up = [worker for worker, member in fleet._members.items() if member.process]
        if self.left and up and self.random.random() < self.chance:
            with contextlib.suppress(ProcessLookupError):  # it died of the kill before, which is not heard of yet
                os.kill(fleet.process(self.random.choice(up)), self.random.choice([signal.SIGKILL, signal.SIGSEGV]))
                self.left -= 1


def soak(kills: int, epochs: int, workers: int = 3, seed: int = 0, method: str = "dana_ga") -> RandomKills:
    """A run with so many kills, held against all laws."""
    at = RandomKills(kills, seed)
    patience = unstale.Patience(back_off=0.0, floor=2.0, max_restarts=10**6)
    settings: dict[str, Any] = {"lr": 0.05, "batch_size": 8, "epochs": epochs}
    live = started(method=method, workers=workers, at=at, patience=patience, pace=Gamma(mean=0.004), **settings)
    run = ended(live, 8 * epochs)
    assert at.left == 0, f"{at.left} kills did not come to pass; have more epochs"
    assert abs(run.score - trained(method, workers, **{**settings, "strategy": "sequential"}).score) < 10
    # Each worker has a socket and a piece of memory.
    assert max(at.descriptors[-20:]) <= max(at.descriptors[:20]) + 2 * workers
    print(f"{kills} kills, {len(run.history)} pushes, {len(at.incidents)} incidents, quarantined {run.quarantined}")
    return at


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="dana_ga")
    given = parser.parse_args()
    soak(given.kills, given.epochs, given.workers, given.seed, given.method)
