"""Many runs, here or spread over worker processes. A run that fails does not stop the others."""

from __future__ import annotations

import signal
import tempfile
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from unstale.errors import RunError, StoreError
from unstale.experiments import worker
from unstale.experiments.outline import Trial

__all__ = ["Failure", "Watcher", "carry_out"]

_Outcomes = Generator[tuple[Trial, str], None, None]
_DIED = "its worker process died (killed, or out of memory)"
_NO_START = (
    "worker processes die as soon as they start; in a script, call compare() under `if __name__ == '__main__':`, "
    "or use jobs=1"
)


@dataclass(frozen=True)
class Failure:
    """A run that did not finish, and why."""

    trial: Trial
    reason: str

    def __str__(self) -> str:
        return f"{self.trial}: {self.reason}"


class Watcher:
    """Looks on while runs are carried out. Override what you need."""

    def on_start(self, trial: Trial) -> None:
        """A run begins."""

    def on_done(self, trial: Trial, failure: Failure | None) -> None:
        """A run has ended, well or not."""


def carry_out(runs: worker.Runs, trials: Iterable[Trial], jobs: int, watcher: Watcher) -> tuple[Failure, ...]:
    """Run and save each trial, ``jobs`` at a time. What is computed does not depend on ``jobs``.

    ``trials`` may be a generator: it is asked for the next one when there is somebody to do it.
    Raises `StoreError` as soon as a run cannot be saved; `KeyboardInterrupt` on Ctrl-C. Finished runs are kept.
    """
    outcomes = _here(runs, trials, watcher) if jobs == 1 else _spread(runs, trials, jobs, watcher)
    failures = []
    with closing(outcomes):  # at once, when interrupted: what only the exit of Python closes finds its world gone
        for trial, reason in outcomes:
            failure = Failure(trial, reason) if reason else None
            failures += [failure] if failure else []
            watcher.on_done(trial, failure)
    return tuple(failures)


def _here(runs: worker.Runs, trials: Iterable[Trial], watcher: Watcher) -> _Outcomes:
    for trial in trials:
        watcher.on_start(trial)
        yield trial, runs.perform(trial)


@dataclass(frozen=True, eq=False)
class _Lane:
    """One worker process. ``hello`` is done when it is ready."""

    pool: ProcessPoolExecutor
    hello: Future[str]

    @classmethod
    def open(cls, setup: tuple[Path, Connection]) -> _Lane:
        pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=worker.start, initargs=setup)
        with _interrupts_held():
            return cls(pool, pool.submit(worker.hello))

    def give(self, trial: Trial) -> Future[worker.Outcome] | None:
        """Start on a trial; None if the process died while it was idle. Raises `RunError` if it never worked."""
        try:
            return self.pool.submit(worker.work, trial)
        except BrokenProcessPool as error:
            if self.hello.exception() is not None:
                raise RunError(_NO_START) from error
            return None

    def outcome(self, future: Future[worker.Outcome]) -> worker.Outcome | None:
        """What came of a trial; None if the process died. Raises `RunError` if it cannot work at all."""
        try:
            return future.result()
        except (BrokenProcessPool, OSError) as error:
            if self.hello.exception() is not None:
                raise RunError(_NO_START) from error
            return None


def _spread(runs: worker.Runs, trials: Iterable[Trial], jobs: int, watcher: Watcher) -> _Outcomes:
    """One process a lane and one run at a time in each, so that a process that dies takes one run with it."""
    shelf = tempfile.TemporaryDirectory(prefix="unstale-")
    leash, held = get_context("spawn").Pipe(duplex=False)
    waiting, idle = _Queue(trials), deque[_Lane]()
    lanes: list[_Lane] = []
    running: dict[Future[worker.Outcome], tuple[Trial, _Lane]] = {}
    try:
        payload = Path(shelf.name) / "runs"
        payload.write_bytes(worker.packed(runs))
        setup = (payload, leash)
        while running or waiting:
            while len(running) < jobs and waiting:
                if not idle:
                    idle.append(_Lane.open(setup))
                    lanes.append(idle[-1])
                lane = idle.popleft()
                given = lane.give(waiting.first)
                if given is not None:
                    running[given] = waiting.take(), lane
                    watcher.on_start(running[given][0])
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                trial, lane = running.pop(future)
                outcome = lane.outcome(future)
                if outcome is not None:
                    idle.append(lane)
                yield trial, _reason(outcome)
    finally:
        held.close()  # ends every worker process, whatever it is doing
        for lane in lanes:
            lane.pool.shutdown(cancel_futures=True)
        leash.close()
        shelf.cleanup()


class _Queue:
    """Looks no further ahead than one trial, for the next may depend on how earlier ones ended."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._rest = iter(trials)
        self._ahead: list[Trial] = []

    def __bool__(self) -> bool:
        if not self._ahead:
            self._ahead = list(islice(self._rest, 1))
        return bool(self._ahead)

    @property
    def first(self) -> Trial:
        return self._ahead[0]

    def take(self) -> Trial:
        return self._ahead.pop()


def _reason(outcome: worker.Outcome | None) -> str:
    if outcome is None:
        return _DIED
    kind, message = outcome
    if kind == "store":
        raise StoreError(message)
    if kind == "unusable":
        raise RunError(message)
    return message


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start in here never see Ctrl-C, not even while they start; this one sees it afterwards."""
    change: Any = getattr(signal, "pthread_sigmask", None)
    if change is None:
        yield
        return
    before = change(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        change(signal.SIG_SETMASK, before)
