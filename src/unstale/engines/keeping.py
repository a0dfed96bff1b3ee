"""Checkpoints of a training: when they are due, what is in them, and going on from one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstale import checkpoint
from unstale.checkpoint import Checkpoints
from unstale.describe import changes
from unstale.engines.base import Plan, versions
from unstale.errors import ArgumentError, StoreError
from unstale.storage import usable_folder

if TYPE_CHECKING:
    from unstale.engines.training import Training

__all__ = ["Keeper", "check_new", "kept"]


class Keeper:
    """Writes a training's checkpoints. Where that fails, it warns once, and training goes on."""

    def __init__(self, checkpoints: Checkpoints | None) -> None:
        self.checkpoints = checkpoints
        self._latest: int | None = None
        self._pushes = 0
        self._since, self._cost = time.perf_counter(), 0.0
        self._warned = False

    def begin(self, latest: int | None = None) -> None:
        """From now on it counts pushes and seconds; ``latest`` is the checkpoint that the training goes on from."""
        self._latest, self._pushes, self._since = latest, latest or 0, time.perf_counter()
        if self.checkpoints is not None:
            checkpoint.tidy(Path(self.checkpoints.folder), latest, self.checkpoints.keep)

    def look(self, training: Training) -> None:
        """After a push: write if it is time."""
        if self.checkpoints is None:
            return
        pushes = training.recorder.pushes - self._pushes
        if pushes and self.checkpoints.due(pushes, time.perf_counter() - self._since, self._cost):
            self.keep(training)

    def keep(self, training: Training) -> None:
        """Write now, unless nothing has changed since the last time."""
        number = training.recorder.pushes
        if self.checkpoints is None or number == self._latest:
            return
        start = time.perf_counter()
        try:
            checkpoint.write(Path(self.checkpoints.folder), number, self._state(training), self.checkpoints.keep)
            self._latest = number
        except StoreError as error:
            if not self._warned:
                warnings.warn(f"{error}; training goes on without", RuntimeWarning, stacklevel=2)
            self._warned = True
        # After a failure, too: it is tried again when the next one is due.
        self._pushes, self._since = number, time.perf_counter()
        self._cost = self._since - start

    def _state(self, training: Training) -> dict[str, Any]:
        assert self.checkpoints is not None
        return {
            "engine": training.engine,
            "plan": training.plan.describe(),
            "versions": versions(),
            "every": {"pushes": self.checkpoints.pushes, "seconds": self.checkpoints.seconds},
            "keep": self.checkpoints.keep,
            "training": training.state_dict(),
        }


def check_new(checkpoints: Checkpoints) -> None:
    """Find out now whether a new run can keep checkpoints there."""
    folder = Path(checkpoints.folder)
    if checkpoint.numbers(folder):
        raise StoreError(
            f"{folder} holds checkpoints already; go on with them (resume={str(folder)!r}), or choose another folder"
        )
    usable_folder(folder)


def kept(folder: Path, plan: Plan, engine: str) -> tuple[int, Mapping[str, Any], Checkpoints]:
    """The newest whole checkpoint of a run of ``plan``: its number, the training's state, and how they were written.

    Raises `StoreError` if there is none, and `ArgumentError` for another plan or engine, naming the first difference.
    """
    number, state = checkpoint.latest(folder)
    here = {"engine": engine, **plan.describe()}
    for change in changes({"engine": state["engine"], **state["plan"]}, here):
        raise ArgumentError(
            f"resume must be given the plan that the run began with, but {change}; go back to it, or begin a new run"
        )
    for change in changes(state["versions"], versions()):
        warnings.warn(f"{change}: the run goes on, but not to the same last bits", RuntimeWarning, stacklevel=2)
        break
    return number, state["training"], Checkpoints(folder, keep=state["keep"], **state["every"])
