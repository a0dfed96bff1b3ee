"""Checkpoints of a training: when they are due, what is in them, and going on from one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from unstale import checkpoint
from unstale.checkpoint import Checkpoints
from unstale.describe import Plain, changes
from unstale.disk import alone_with
from unstale.engines.base import versions
from unstale.errors import ArgumentError, StoreError
from unstale.recorder import Recorder
from unstale.storage import usable_folder

__all__ = ["Keepable", "Keeper", "opened"]


class _Described(Protocol):
    def describe(self) -> dict[str, Plain]: ...


class Keepable(Protocol):
    """What checkpoints are written of."""

    engine: str
    recorder: Recorder

    @property
    def plan(self) -> _Described:
        """What it was told to do: who goes on must be told the same."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""


class Keeper:
    """Writes a training's checkpoints. Where that fails, it warns once, and training goes on."""

    def __init__(self, checkpoints: Checkpoints | None, latest: int | None = None) -> None:
        self.checkpoints = checkpoints
        self._latest, self._pushes = latest, latest or 0
        self._since, self._cost = time.perf_counter(), 0.0
        self._warned = False

    def alone(self) -> AbstractContextManager[None]:
        """For as long as a run goes on: nobody else may keep checkpoints there. Raises `StoreError` if somebody does.

        A run that is taken up again while it still goes on elsewhere would write over itself.
        """
        return alone_with(None if self.checkpoints is None else Path(self.checkpoints.folder))

    def begin(self) -> None:
        """From now on it counts seconds."""
        self._since = time.perf_counter()
        if self.checkpoints is not None:
            checkpoint.tidy(Path(self.checkpoints.folder), self._latest, self.checkpoints.keep)

    def look(self, training: Keepable) -> None:
        """After a push: write if it is time."""
        if self.checkpoints is None:
            return
        pushes = training.recorder.pushes - self._pushes
        if pushes and self.checkpoints.due(pushes, time.perf_counter() - self._since, self._cost):
            self.keep(training)

    def keep_now(self, training: Keepable) -> None:
        """As it was asked for. Raises `ArgumentError` where there is no place for it."""
        if self.checkpoints is None:
            raise ArgumentError("checkpoints must be given when a run is launched, to write one, got none")
        self.keep(training)

    def keep(self, training: Keepable) -> None:
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

    def _state(self, training: Keepable) -> dict[str, Any]:
        assert self.checkpoints is not None
        return {
            "engine": training.engine,
            "plan": training.plan.describe(),
            "versions": versions(),
            "every": {"pushes": self.checkpoints.pushes, "seconds": self.checkpoints.seconds},
            "keep": self.checkpoints.keep,
            "training": training.state_dict(),
        }


def opened(
    checkpoints: Checkpoints | None, resume: Path | None, plan: _Described, engine: str
) -> tuple[Keeper, Mapping[str, Any] | None]:
    """A keeper that writes ``checkpoints``, and the state to go on from: the newest in the folder ``resume``.

    Raises `StoreError` where that cannot be, and `ArgumentError` if ``resume`` is of another plan.
    """
    latest, state = None, None
    if resume is not None:
        latest, state, usual = _kept(resume, plan, engine)
        checkpoints = checkpoints or usual
    if checkpoints is not None and (resume is None or Path(checkpoints.folder).resolve() != resume.resolve()):
        latest = None  # in another folder there is none yet
        _check_new(checkpoints)
    return Keeper(checkpoints, latest), state


def _check_new(checkpoints: Checkpoints) -> None:
    """Find out now whether a new run can keep checkpoints there."""
    folder = Path(checkpoints.folder)
    if checkpoint.numbers(folder):
        raise StoreError(
            f"{folder} holds checkpoints already; go on with them (resume={str(folder)!r}), or choose another folder"
        )
    usable_folder(folder)


def _kept(folder: Path, plan: _Described, engine: str) -> tuple[int, Mapping[str, Any], Checkpoints]:
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
