"""What all clocks share: a job's duration depends on (seed, worker, job) alone, and is drawn in tiles."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from unstale.checks import set_number, whole
from unstale.clocks.schedule import TILE, FloatArray, Schedule, Tiles, barrier_time, merge

__all__ = ["Clock", "DurationStream", "RandomClock", "for_workers"]

_CLOCKS = 0xC10C  # keeps a run's clock apart from whatever else is drawn from the same seed
_JOBS, _WORKERS = 0, 1  # the last word of the counter: what a tile is for


@dataclass(frozen=True, kw_only=True)
class Clock(ABC):
    """How long each job of each worker takes. A job is one gradient, from its pull to its push.

    The j-th job of worker i takes a time that depends on (seed, i, j) alone: the same for every method, however many
    workers there are, in whatever order it is asked for. Random draws repeat to the bit under one version of numpy.

    communication: constant time added to every job.
    Unit of time: 1 is the mean time of one gradient in a homogeneous cluster, unless ``mean`` says otherwise.
    Raises: ArgumentError for a number outside its range.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]

    communication: float = 0.0

    def __post_init__(self) -> None:
        set_number(self, "communication", lambda x: x >= 0, "be at least 0", "0 means that sending takes no time")

    def durations(self, workers: int, start: int, stop: int, seed: int) -> FloatArray:
        """(workers, stop - start) durations of the jobs ``start`` to ``stop - 1`` of the workers 0, 1, …

        Raises: ArgumentError for workers < 1, start < 0, stop < start, or seed < 0.
        """
        whole("workers", workers, 1)
        whole("start", start, 0)
        whole("stop", stop, start)
        tiles = self._timed_tiles(seed)
        durations = np.empty((workers, stop - start))
        for worker in range(0, workers, TILE):
            for first in range(start - start % TILE, stop, TILE):
                low, high = max(first, start), min(first + TILE, stop)
                tile = tiles(worker // TILE, first // TILE)
                durations[worker : worker + TILE, low - start : high - start] = tile[
                    : workers - worker, low - first : high - first
                ]
        return durations

    def duration(self, worker: int, job: int, seed: int) -> float:
        """One job's duration. Draws a whole tile: to ask often, keep a ``stream``."""
        return self.stream(seed).duration(worker, job)

    def stream(self, seed: int) -> DurationStream:
        """Durations under one seed, one at a time, with the tiles in use kept."""
        return DurationStream(self._timed_tiles(seed))

    def schedule(self, workers: int, pushes: int, seed: int) -> Schedule:
        """The first ``pushes`` pushes of workers that never wait, in order of (time, worker).

        To the bit what a heap of (time, worker) gives with ``time += duration``.
        Raises: ArgumentError for workers < 1, pushes < 0, or seed < 0.
        """
        whole("workers", workers, 1)
        whole("pushes", pushes, 0)
        return merge(self._timed_tiles(seed), workers, pushes)

    def synchronous_time(self, workers: int, pushes: int, seed: int) -> float:
        """Time that ``pushes`` gradients take in rounds that wait for the slowest of ``workers`` workers.

        Round r uses job r of every worker; a last, partial round uses the first workers only.
        Raises: ArgumentError for workers < 1, pushes < 0, or seed < 0.
        """
        whole("workers", workers, 1)
        whole("pushes", pushes, 0)
        return barrier_time(self._timed_tiles(seed), workers, pushes)

    @abstractmethod
    def _tiles(self, seed: int) -> Tiles:
        """Where tiles of durations come from, communication not included."""

    def _timed_tiles(self, seed: int) -> Tiles:
        whole("seed", seed, 0)
        tiles, communication = self._tiles(seed), self.communication
        return lambda worker_tile, job_tile: tiles(worker_tile, job_tile) + communication


@dataclass(frozen=True, kw_only=True)
class RandomClock(Clock):
    """A clock whose durations are independent draws from one law, times a factor for each worker."""

    @abstractmethod
    def _sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        """Durations of jobs, independent and of one law."""

    def _factors(self, rng: np.random.Generator, workers: int) -> FloatArray:
        """(workers,) how many times longer each worker takes than the law says."""
        return np.ones(workers)

    def _tiles(self, seed: int) -> Tiles:
        key = _key(seed)

        @functools.lru_cache(maxsize=4096)
        def factors(worker_tile: int) -> FloatArray:
            return self._factors(_generator(key, worker_tile, 0, _WORKERS), TILE)[:, None]

        def tile(worker_tile: int, job_tile: int) -> FloatArray:
            return self._sample(_generator(key, worker_tile, job_tile, _JOBS), (TILE, TILE)) * factors(worker_tile)

        return tile


class DurationStream:
    """A clock's durations under one seed, for a simulator that asks for one job after the other.

    Keeps each worker's current TILE jobs, and the latest tiles for the workers that follow. Made by ``Clock.stream``.
    """

    def __init__(self, tiles: Tiles) -> None:
        self._tile = functools.lru_cache(maxsize=256)(tiles)
        self._rows: dict[int, tuple[int, list[float]]] = {}

    def duration(self, worker: int, job: int) -> float:
        """Duration of the ``job``-th job of ``worker``, both counted from 0.

        Raises: ArgumentError for a negative worker or job.
        """
        job_tile, column = divmod(job, TILE)
        kept, row = self._rows.get(worker, (-1, []))
        if kept != job_tile or job_tile < 0:
            row = self._fetch(worker, job)
        return row[column]

    def _fetch(self, worker: int, job: int) -> list[float]:
        whole("worker", worker, 0)
        whole("job", job, 0)
        row: list[float] = self._tile(worker // TILE, job // TILE)[worker % TILE].tolist()
        self._rows[worker] = (job // TILE, row)
        return row


def for_workers(seed: int, worker_tile: int) -> np.random.Generator:
    """Random numbers for what is drawn once for each worker of a tile."""
    return _generator(_key(seed), worker_tile, 0, _WORKERS)


def _key(seed: int) -> np.ndarray:
    return np.random.SeedSequence(seed, spawn_key=(_CLOCKS,)).generate_state(2, np.uint64)


def _generator(key: np.ndarray, worker_tile: int, job_tile: int, purpose: int) -> np.random.Generator:
    """A tile's own random numbers: its place is in the upper words, and drawing moves only the lowest one."""
    counter = np.array([0, worker_tile, job_tile, purpose], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
