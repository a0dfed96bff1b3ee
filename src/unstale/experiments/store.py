"""A comparison's folder: comparison.json says what it is, runs/ holds a folder for each run that is finished."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from unstale import checks
from unstale.describe import Plain, changes
from unstale.disk import alone_with
from unstale.errors import StoreError
from unstale.experiments.outline import Outline, Trial
from unstale.record import Run
from unstale.storage import UNFINISHED, load_run, read_json, save_run, usable_folder, write_json, written

__all__ = ["COMPARISON", "Store", "in_folder"]

COMPARISON, RUNS, RECORD = "comparison.json", "runs", "config.json"
STRATEGY, SESSIONS = "strategy.json", "sessions.json"
_SHOWN = 12
T = TypeVar("T")


def in_folder(out: str | Path | None, work: Callable[[Path], T]) -> T:
    """What ``work`` makes in ``out``; if that is None, in a temporary folder that lives as long as what it made."""
    if out is not None:
        return work(checks.path("out", out))
    folder = Path(tempfile.mkdtemp(prefix="unstale-"))
    try:
        made = work(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(made, shutil.rmtree, folder, ignore_errors=True)
    return made


@dataclass(frozen=True)
class Store:
    """Where the runs of a comparison are kept."""

    folder: Path
    file: ClassVar[str] = COMPARISON  # says what the folder is
    kind: ClassVar[str] = "comparison"
    maker: ClassVar[str] = "compare"

    @classmethod
    def open(cls, folder: Path, document: Mapping[str, Any]) -> Self:
        """A folder to write into: a new one, or one that holds the same comparison, to be continued.

        Raises `StoreError` if it cannot be written, holds anything else, or another comparison.
        """
        store = cls(folder)
        if store.exists():
            store._check_same(document["specification"])
            usable_folder(folder)
        else:
            store._check_empty()
            with written(folder) as new:
                write_json(new / cls.file, document)
        return store

    def exists(self) -> bool:
        """Whether there is what it is to hold."""
        return (self.folder / self.file).exists()

    def document(self) -> dict[str, Any]:
        """What that file says. Raises `StoreError` if it is missing or damaged."""
        path = self.folder / self.file
        if not path.exists():
            raise StoreError(
                f"{self.folder} holds no {self.kind}: {path} is missing; pass a folder that {self.maker} has written"
            )
        document = read_json(path)
        self._check(document, path)
        return document

    def _check(self, document: Mapping[str, Any], path: Path) -> None:
        Outline.of(document, path)

    def outline(self) -> Outline:
        """What was compared."""
        return Outline.of(self.document(), self.folder / COMPARISON)

    def strategy(self) -> str | None:
        """How gradients are computed in all runs, where that was left to "auto" and has been settled."""
        path = self.folder / STRATEGY
        if not path.exists():
            return None
        chosen = read_json(path).get("strategy")
        if not isinstance(chosen, str):
            raise StoreError(f"{path} is damaged: it names no strategy; delete it and compare again")
        return chosen

    def keep_strategy(self, chosen: str, why: str) -> None:
        """Settle it."""
        with written(self.folder) as new:
            write_json(new / STRATEGY, {"strategy": chosen, "why": why})

    @contextmanager
    def timed(self, jobs: int) -> Iterator[None]:
        """Note how long this takes, also if it is interrupted; not if it is killed."""
        started = time.perf_counter()
        try:
            yield
        finally:
            session: dict[str, Plain] = {"seconds": round(time.perf_counter() - started, 1), "jobs": jobs}
            with written(self.folder) as new:
                write_json(new / SESSIONS, {"sessions": [*self.sessions(), session]})

    def sessions(self) -> list[dict[str, Any]]:
        """Of each time that runs were carried out: seconds of wall time, and how many at a time."""
        path = self.folder / SESSIONS
        return list(read_json(path).get("sessions", [])) if path.exists() else []

    def path(self, trial: Trial) -> Path:
        """A run's own folder."""
        return self.folder / RUNS / trial.key

    def has(self, trial: Trial) -> bool:
        """Whether this run is finished."""
        return (self.path(trial) / RECORD).exists()

    def save(self, trial: Trial, run: Run) -> None:
        """Keep a run, without its parameters."""
        save_run(run, self.path(trial), params=False)

    def files(self, trial: Trial) -> dict[str, bytes]:
        """A run's files, to be kept elsewhere."""
        return {path.name: path.read_bytes() for path in self.path(trial).iterdir() if path.is_file()}

    def take(self, trial: Trial, files: Mapping[str, bytes]) -> None:
        """Keep a run that was saved elsewhere. Raises `StoreError` if it cannot be saved."""
        with written(self.path(trial)) as new:
            for name, content in files.items():
                (new / Path(name).name).write_bytes(content)

    def load(self, trial: Trial) -> Run:
        """A run with its history. Raises `StoreError` if it is missing or damaged."""
        return load_run(self.path(trial))

    def record(self, trial: Trial) -> dict[str, Any]:
        """A run's configuration and summary. Raises `StoreError` if it is missing or damaged."""
        path = self.path(trial) / RECORD
        record = read_json(path)
        if not isinstance(record.get("summary"), Mapping) or not isinstance(record.get("config"), Mapping):
            raise StoreError(f"{path} is damaged: it has no summary; delete {path.parent} and run it again")
        return record

    @contextmanager
    def claimed(self) -> Iterator[list[Trial]]:
        """Have the folder for oneself; gives the runs that are missing.

        What an interrupted run has left is removed. Raises `StoreError` if another process is at work in the folder, or
        if a finished run cannot be read.
        """
        trials = self.outline().trials()
        with self.locked():
            missing = [trial for trial in trials if not self.has(trial)]
            for path in map(self.path, missing):
                shutil.rmtree(path, ignore_errors=True)
            for trial in filter(self.has, trials):
                self.record(trial)
                self.load(trial)
            yield missing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Have the folder for oneself; half-written files are removed. Raises `StoreError` if somebody else has it."""
        with alone_with(self.folder / self.file):
            for path in (*self.folder.glob(f"{UNFINISHED}*"), *self.folder.glob(f"{RUNS}/*/{UNFINISHED}*")):
                shutil.rmtree(path, ignore_errors=True)
            yield

    def _check_empty(self) -> None:
        folder = self.folder
        try:
            strangers = [path.name for path in folder.iterdir() if not path.name.startswith(UNFINISHED)]
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"cannot use {folder}: {error.strerror or error}; choose another folder") from error
        if strangers:
            raise StoreError(f"{folder} holds {min(strangers)!r}, and no {self.kind}; choose a new or an empty folder")

    def _check_same(self, here: Mapping[str, Any]) -> None:
        found = list(changes(self.document()["specification"], json.loads(json.dumps(here))))
        if found:
            more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise StoreError(
                f"{self.folder} holds another {self.kind}: {'; '.join(found[:_SHOWN])}{more}; "
                "choose another folder, or go back to the old settings"
            )
