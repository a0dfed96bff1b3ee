"""Who carries out runs: this process, worker processes of this machine, or actors of a Ray cluster."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from unstale import checks
from unstale.errors import ArgumentError, RunError
from unstale.experiments import worker
from unstale.experiments.outline import Trial

__all__ = ["ENGINES", "Hands", "Jobs", "Lane", "Processes"]

ENGINES = ("processes", "ray")
_NO_START = (
    "worker processes die as soon as they start; in a script, call compare() under `if __name__ == '__main__':`, "
    "or use jobs=1"
)


class Lane(Protocol):
    """Somewhere to carry out one run after the other. ``death``: how it is called when it dies."""

    @property
    def death(self) -> str:
        """In words."""

    def give(self, trial: Trial) -> Future[Any] | None:
        """Start on a trial; None if the lane is there no more. Raises `RunError` if it never worked."""

    def outcome(self, trial: Trial, future: Future[Any]) -> worker.Outcome | None:
        """What came of a trial, which is saved then; None if the lane died over it. Raises as `give`."""


class Hands(Protocol):
    """Those who carry out runs."""

    @property
    def count(self) -> int:
        """Runs at a time."""

    @property
    def alone(self) -> bool:
        """Whether it is this process, which needs no lanes."""

    @property
    def tries(self) -> int:
        """How many lanes may die over one trial."""

    def lanes(self, runs: worker.Runs) -> AbstractContextManager[Callable[[], Lane]]:
        """What opens a lane; in the end all are closed, whatever they are at."""


@dataclass(frozen=True)
class Jobs:
    """What was asked for: so many runs at a time, in processes of this machine or on a Ray cluster.

    count: None: as many as the cluster has cores (with a GPU for each run: GPUs). address: of the cluster, "auto" to
    find it, None for a local one. Raises `ArgumentError` for values that break a rule.
    """

    count: int | None = 1
    engine: str = "processes"
    address: str | None = None

    def __post_init__(self) -> None:
        checks.choice("engine", self.engine, ENGINES)
        if self.count is not None or self.engine == "processes":
            checks.whole("jobs", self.count, 1)
        if self.address is not None and self.engine != "ray":
            raise ArgumentError(f"address is for engine 'ray', but engine is {self.engine!r}; leave it out")

    @contextmanager
    def hands(self, missing: int, device: str) -> Iterator[Hands]:
        """Those who do it, no more than there are runs ``missing``; nobody is looked for where none is."""
        if self.engine == "ray" and missing:
            from unstale.experiments.on_ray import on_ray

            with on_ray(self.address, self.count, missing, device) as found:
                yield found
        else:
            yield Processes(max(1, min(self.count or 1, missing)))


@dataclass(frozen=True)
class Processes:
    """One process a lane and one run at a time in each, so that a process that dies takes one run with it."""

    count: int
    tries: int = 1

    @property
    def alone(self) -> bool:
        """One needs no other."""
        return self.count == 1

    @contextmanager
    def lanes(self, runs: worker.Runs) -> Iterator[Callable[[], Lane]]:
        """See `Hands`."""
        opened: list[_Process] = []
        leash, held = get_context("spawn").Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix="unstale-") as shelf:
            payload = Path(shelf) / "runs"

            def open_() -> Lane:
                opened.append(_Process.open((payload, leash)))
                return opened[-1]

            try:
                payload.write_bytes(worker.packed(runs))
                yield open_
            finally:
                held.close()  # ends every worker process, whatever it is doing
                for lane in opened:
                    lane.pool.shutdown(cancel_futures=True)
                leash.close()


@dataclass(frozen=True, eq=False)
class _Process:
    """One worker process. ``hello`` is done when it is ready."""

    pool: ProcessPoolExecutor
    hello: Future[str]
    death: str = "its worker process died (killed, or out of memory)"

    @classmethod
    def open(cls, setup: tuple[Path, Connection]) -> _Process:
        pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=worker.start, initargs=setup)
        with _deaf_children():
            return cls(pool, pool.submit(worker.hello))

    def give(self, trial: Trial) -> Future[worker.Outcome] | None:
        """See `Lane`."""
        try:
            return self.pool.submit(worker.work, trial)
        except BrokenProcessPool as error:
            self._must_have_worked(error)
            return None

    def outcome(self, trial: Trial, future: Future[worker.Outcome]) -> worker.Outcome | None:
        """See `Lane`."""
        try:
            return future.result()
        except (BrokenProcessPool, OSError) as error:
            self._must_have_worked(error)
            return None

    def _must_have_worked(self, error: Exception) -> None:
        if self.hello.exception() is not None:
            raise RunError(_NO_START) from error


@contextmanager
def _deaf_children() -> Iterator[None]:
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
