"""A trainer to be killed: ``python -m tests.faults.trainer TOLD``, of which `tests.faults.crashes` starts many.

It kills workers at exact pushes, and tells that, and its checkpoints; and it kills itself at an exact push, or at an
exact step of what it writes to disk from then on, so also in the middle of a checkpoint. What comes to its end keeps
all laws, and is saved.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import unstale
from tests.faults.inject import At, ended, kill_any, started
from unstale.checkpoint import numbers
from unstale.clocks import Gamma

BATCHES = 8  # of an epoch
EVERY, KEEP = 20, 3  # pushes between checkpoints, and how many stay
KEPT, RUN = "kept", "run"
STEPS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")  # as the interpreter's audit names them


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a trainer is told. ``dies``: at which push, never for None; ``step``: at which step on disk after that."""

    folder: str
    method: str = "dana_ga"
    workers: int = 3
    epochs: int = 15
    kills: list[int] = field(default_factory=list)
    dies: int | None = None
    step: int = 0
    seed: int = 0

    def command(self) -> list[str]:
        """What starts one."""
        return [sys.executable, "-m", "tests.faults.trainer", json.dumps(asdict(self))]

    @property
    def settings(self) -> dict[str, Any]:
        """Of the run."""
        return {"method": self.method, "workers": self.workers, "lr": 0.05, "batch_size": 8, "epochs": self.epochs}


class Doomed(At):
    """Dies as it was told to."""

    def __init__(self, told: Told) -> None:
        super().__init__(dict.fromkeys(told.kills, kill_any(random.Random(told.seed))))
        self.told, self.left = told, told.step
        self.armed, self.kept = False, 0

    def on_push(self, row: Mapping[str, Any]) -> None:
        super().on_push(row)
        if row["push"] in self.pushes:
            print("killed", row["push"], flush=True)
        assert self.live is not None
        kept = self.live._conductor._keeper._latest or 0
        if kept > self.kept:
            self.kept = kept
            print("kept", kept, flush=True)
        self.armed |= self.told.dies is not None and row["push"] >= self.told.dies
        if self.armed and not self.told.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_step(self, event: str, about: object) -> None:
        """An audit hook: before each step on disk."""
        if self.armed and event in STEPS and threading.current_thread().name == "unstale-live":
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)


def train(told: Told) -> None:
    """From the newest checkpoint, if there is one."""
    doomed, folder = Doomed(told), Path(told.folder)
    kept = folder / KEPT
    how: dict[str, Any] = {"checkpoints": unstale.Checkpoints(kept, pushes=EVERY, seconds=None, keep=KEEP)}
    if numbers(kept):
        how = {"resume": kept}
    sys.addaudithook(doomed.on_step)
    patience = unstale.Patience(back_off=0.0, floor=2.0, max_restarts=10**6)
    pace = Gamma(mean=0.004)
    run = ended(started(at=doomed, patience=patience, pace=pace, **told.settings, **how), BATCHES * told.epochs)
    run.save(folder / RUN)


if __name__ == "__main__":
    train(Told(**json.loads(sys.argv[1])))
