"""Many random kills over a long run lose nothing: ``python -m tests.faults.soak --kills 200 --server-kills 40``.

First of workers only, then of workers and the server, which goes on from its checkpoints. Prints what happened; fails
if a law is broken, or memory or descriptors grow.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import unstale
from tests.engines.problems import trained
from tests.faults.crashes import in_a_folder
from tests.faults.inject import At, ended, kill_any, started, up
from unstale.clocks import Gamma


class RandomKills(At):
    """Kills any worker that there is, in whatever state, at random pushes; signals are as random."""

    def __init__(self, kills: int, seed: int, chance: float = 0.1) -> None:
        super().__init__()
        self.left, self.chance = kills, chance
        self.random = random.Random(seed)
        self.kill = kill_any(self.random)
        self.descriptors: list[int] = []

    def on_push(self, row: Mapping[str, Any]) -> None:
        assert self.live is not None
        self.descriptors.append(len(list(Path("/proc/self/fd").iterdir())))
        if self.left and up(self.live) and self.random.random() < self.chance:
            self.kill(self.live, row["worker"])
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
    parser.add_argument("--server-kills", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="dana_ga")
    given = parser.parse_args()
    how = {"epochs": given.epochs, "workers": given.workers, "seed": given.seed, "method": given.method}
    soak(given.kills, **how)
    print(in_a_folder(given.kills, given.server_kills, **how))
