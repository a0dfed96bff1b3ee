"""A worker process of a comparison: unpacks what is compared once, then runs one trial after the other."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Iterator
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

__all__ = ["Outcome", "hello", "packed", "perform", "start", "work"]

Outcome = tuple[Literal["run", "store", "unusable"], str]
"""What went wrong, in what: the run itself ("" if nothing did), saving it, or the whole process."""

_setup: list[tuple[Path, Store]] = []


def packed(specification: Specification) -> bytes:
    """The comparison as bytes. Raises `ArgumentError`, naming the piece, if it cannot travel to another process."""
    try:
        return pickle.dumps(specification)
    except Exception:  # pickling raises whatever it likes
        for name, piece in _pieces(specification):
            if reason := _unpicklable(piece):
                error = ArgumentError(
                    f"{name} cannot travel to another process ({reason}); define it at the top level of a module, "
                    "not as a lambda or inside a function, or use jobs=1"
                )
                break
        raise error from None


def perform(specification: Specification, store: Store, trial: Trial) -> str:
    """One run, saved. The answer says why it failed, and is empty if it did not.

    Raises `StoreError` if it cannot be saved.
    """
    try:
        run = simulate(specification.plan(trial))
    except UnstaleError as error:
        return str(error)
    except Exception as error:  # whatever a task or a method of the user's may raise
        return f"{type(error).__name__}: {error}"
    store.save(trial, run)
    return ""


def start(payload: Path, store: Store, leash: Connection) -> None:
    """Get ready. The process ends when the other end of ``leash`` is closed, or its owner dies.

    What is compared comes in a file, ``payload``: sent through the pipe that starts a process, it would be more than
    the pipe holds, and a process that dies before it reads would leave its owner writing for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()
    torch.set_num_threads(1)
    _setup[:] = [(payload, store)]


def hello() -> str:
    """The first answer of a process that has started."""
    return "ready"


def work(trial: Trial) -> Outcome:
    """Run and save one trial. Errors come back as words: not every exception can travel."""
    try:
        specification = _specification()
    except Exception as error:  # unpickling imports and runs the user's modules
        where = "define what you compare in a module that can be imported, or use jobs=1"
        return "unusable", f"a worker process cannot load the comparison ({type(error).__name__}: {error}); {where}"
    try:
        return "run", perform(specification, _setup[0][1], trial)
    except StoreError as error:
        return "store", str(error)


@cache
def _specification() -> Specification:
    loaded = pickle.loads(_setup[0][0].read_bytes())
    assert isinstance(loaded, Specification)
    return loaded


def _end_with(leash: Connection) -> None:
    try:
        leash.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)


def _pieces(specification: Specification) -> Iterator[tuple[str, object]]:
    for label, method in specification.methods.items():
        yield f"method {label!r}", method
    for name, value in specification.settings.items():
        yield f"{name}={value!r}", value
    for name, value in vars(specification.task).items():
        yield f"the task's {name.lstrip('_')}", value
    yield "the task", specification.task


def _unpicklable(piece: object) -> str:
    try:
        pickle.dumps(piece)
    except Exception as error:  # as above
        return str(error)
    return ""
