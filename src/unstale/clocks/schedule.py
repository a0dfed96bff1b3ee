"""Who pushes when, if nobody waits; how long the same work takes when everybody waits. Whole arrays, no event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["TILE", "FloatArray", "IntArray", "Schedule", "Tiles", "barrier_time", "merge"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TILE = 64
"""Durations are drawn in tiles of TILE workers x TILE jobs."""

Tiles = Callable[[int, int], FloatArray]
"""(worker tile, job tile) -> (TILE, TILE) durations."""


class Schedule(NamedTuple):
    """The pushes of workers that never wait, in order of (time, worker).

    worker: (E,) int64, who pushes.
    time: (E,) float64, when, in the clock's unit.
    delay: (E,) int64, pushes of others since this worker's previous push (since the start, for its first).
    """

    worker: IntArray
    time: FloatArray
    delay: IntArray


def merge(tiles: Tiles, workers: int, pushes: int) -> Schedule:
    """The first ``pushes`` events of ``workers`` workers; times are those of a sequential ``time += duration``."""
    if pushes == 0:
        return Schedule(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    horizon = 1.05 * (pushes + workers) / _rate(tiles, workers)
    worker, time = _events_until(tiles, workers, horizon)
    while len(time) < pushes:
        horizon *= min(4.0, max(1.2, 1.1 * pushes / max(len(time), 1)))
        worker, time = _events_until(tiles, workers, horizon)
    order = np.lexsort((worker, time))[:pushes]
    worker = worker[order]
    return Schedule(worker, time[order], _delays(worker, workers))


def barrier_time(tiles: Tiles, workers: int, pushes: int) -> float:
    """Time of ``pushes`` gradients in rounds of ``workers`` jobs, each round as long as its longest job.

    Round r is job r of every worker. The last round may be partial: it takes workers 0, 1, … only.
    """
    full, partial = divmod(pushes, workers)
    rounds = _longest(tiles, workers, 0, full)
    if partial:
        rounds = np.concatenate((rounds, _longest(tiles, partial, full, full + 1)))
    return float(np.cumsum(rounds)[-1]) if len(rounds) else 0.0


def _longest(tiles: Tiles, workers: int, start: int, stop: int) -> FloatArray:
    """(stop - start,) the longest duration among all workers of each of the jobs ``start`` to ``stop - 1``."""
    longest = np.zeros(stop - start)
    for first in range(start - start % TILE, stop, TILE):
        low, high = max(first, start), min(first + TILE, stop)
        part = longest[low - start : high - start]
        for worker in range(0, workers, TILE):
            tile = tiles(worker // TILE, first // TILE)[: workers - worker, low - first : high - first]
            np.maximum(part, tile.max(axis=0), out=part)
    return longest


def _rate(tiles: Tiles, workers: int) -> float:
    """Pushes per unit of time of all workers together, as seen in each one's first TILE jobs."""
    return sum(
        float(np.sum(TILE / tiles(worker // TILE, 0)[: workers - worker].sum(axis=1)))
        for worker in range(0, workers, TILE)
    )


def _events_until(tiles: Tiles, workers: int, horizon: float) -> tuple[IntArray, FloatArray]:
    """Worker and time of every event up to ``horizon``, each worker's own in order."""
    who: list[IntArray] = []
    when: list[FloatArray] = []
    for first in range(0, workers, TILE):
        ids = np.arange(first, min(first + TILE, workers), dtype=np.int64)
        now = np.zeros(len(ids))
        job_tile = 0
        while now.min() <= horizon:
            steps = np.column_stack((now, tiles(first // TILE, job_tile)[: len(ids)]))
            times = np.cumsum(steps, axis=1)[:, 1:]
            inside = times <= horizon
            who.append(np.repeat(ids, inside.sum(axis=1)))
            when.append(times[inside])
            now = times[:, -1]
            job_tile += 1
    return np.concatenate(who), np.concatenate(when)


def _delays(worker: IntArray, workers: int) -> IntArray:
    """(E,) pushes of others between each push and the same worker's previous one."""
    small = workers <= 2**16  # numpy sorts 16-bit integers by radix, ten times faster
    by_worker = np.argsort(worker.astype(np.uint16) if small else worker, kind="stable")
    previous = np.empty(len(worker), dtype=np.int64)
    previous[0] = -1
    previous[1:] = by_worker[:-1]
    grouped = worker[by_worker]
    previous[1:][grouped[1:] != grouped[:-1]] = -1
    delay = np.empty(len(worker), dtype=np.int64)
    delay[by_worker] = by_worker - previous - 1
    return delay
