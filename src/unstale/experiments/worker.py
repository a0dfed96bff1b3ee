"""A worker process: unpacks what is to be done once, then does one trial after the other."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import torch

from unstale.engines import simulate
from unstale.errors import ArgumentError, StoreError, UnstaleError
from unstale.experiments.outline import Trial
from unstale.experiments.specification import Specification
from unstale.experiments.store import Store
from unstale.record import Run

__all__ = ["Files", "Outcome", "Runs", "attempt", "hello", "packed", "start", "work"]

Outcome = tuple[Literal["run", "store", "unusable"], str]
"""What went wrong, in what: the run itself ("" if nothing did), saving it, or the whole process."""

Files = Mapping[str, Mapping[str, bytes]]
"""Of runs: by the trial's key, then by name."""

_setup: list[Path] = []


@dataclass(frozen=True)
class Runs:
    """What is done with a trial: it is run, and saved."""

    specification: Specification
    store: Store

    def run(self, trial: Trial) -> Run:
        """The run itself."""
        return simulate(self.specification.plan(trial))

    def perform(self, trial: Trial) -> str:
        """One run, saved. The answer says why it failed, and is empty if it did not.

        Raises `StoreError` if it cannot be saved.
        """
        try:
            run = self.run(trial)
        except UnstaleError as error:
            return str(error)
        except Exception as error:  # whatever a task or a method of the user's may raise
            return f"{type(error).__name__}: {error}"
        self.store.save(trial, run)
        return ""

    def own(self, trial: Trial) -> Iterator[Trial]:
        """What is run for a trial, each by itself."""
        yield trial

    def files(self, trial: Trial) -> Files:
        """What the store has of a trial."""
        return {own.key: self.store.files(own) for own in self.own(trial) if self.store.has(own)}

    def take(self, trial: Trial, files: Files) -> None:
        """Have the store keep what `files` gave elsewhere. Raises `StoreError` if it cannot be saved."""
        for own in self.own(trial):
            if own.key in files and not self.store.has(own):
                self.store.take(own, files[own.key])

    def pieces(self) -> Iterator[tuple[str, object]]:
        """What has to travel to another process, piece by piece, each with a name."""
        for label, method in self.specification.methods.items():
            yield f"method {label!r}", method
        for name, value in self.specification.settings.items():
            yield f"{name}={value!r}", value
        for name, value in vars(self.specification.task).items():
            yield f"the task's {name.lstrip('_')}", value
        yield "the task", self.specification.task


def packed(runs: Runs, dumps: Callable[[object], bytes] = pickle.dumps) -> bytes:
    """All that is done as bytes. Raises `ArgumentError`, naming the piece, if it cannot travel to another process."""
    try:
        return dumps(runs)
    except Exception:  # pickling raises whatever it likes
        for name, piece in runs.pieces():
            if reason := _unpicklable(piece, dumps):
                error = ArgumentError(
                    f"{name} cannot travel to another process ({reason}); define it at the top level of a module, "
                    "not as a lambda or inside a function, or use jobs=1"
                )
                break
        raise error from None


def start(payload: Path, leash: Connection) -> None:
    """Get ready. The process ends when the other end of ``leash`` is closed, or its owner dies.

    What is to be done comes in a file, ``payload``: sent through the pipe that starts a process, it would be more than
    the pipe holds, and a process that dies before it reads would leave its owner writing for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
    torch.set_num_threads(1)
    _setup[:] = [payload]


def hello() -> str:
    """The first answer of a process that has started."""
    return "ready"


def work(trial: Trial) -> Outcome:
    """See `attempt`."""
    return attempt(_runs, trial)


def attempt(load: Callable[[], Runs], trial: Trial) -> Outcome:
    """Run and save one trial. Errors come back as words: not every exception can travel."""
    try:
        runs = load()
    except Exception as error:  # unpickling imports and runs the user's modules
        where = "define what you compare in a module that can be imported, or use jobs=1"
        return "unusable", f"a worker process cannot load the comparison ({type(error).__name__}: {error}); {where}"
    try:
        return "run", runs.perform(trial)
    except StoreError as error:
        return "store", str(error)


@cache
def _runs() -> Runs:
    loaded = pickle.loads(_setup[0].read_bytes())
    assert isinstance(loaded, Runs)
    return loaded


def _end_with(leash: Connection) -> None:
    try:
        leash.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _unpicklable(piece: object, dumps: Callable[[object], bytes]) -> str:
    try:
        dumps(piece)
    except Exception as error:  # as above
        return str(error)
    return ""
