"""Who pushes when, if nobody waits; how long the same work takes when everybody waits. Whole arrays, no event loop."""

from __future__ import annotations

import functools
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

_KEPT = 4096  # so many first tiles, of 32 KiB each
_CHUNK = 2**17  # pushes whose arrays fit into a cache together


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
    tiles = _keeping_first(tiles)
    horizon = 1.05 * (pushes + workers) / _rate(tiles, workers)
    worker, time = _events_until(tiles, workers, horizon)
    while len(time) < pushes:
        horizon *= min(4.0, max(1.2, 1.1 * pushes / max(len(time), 1)))
        worker, time = _events_until(tiles, workers, horizon)
    worker, time = _in_order(worker, time, workers)
    worker, time = worker[:pushes].copy(), time[:pushes].copy()  # not views: those would keep the rest alive
    return Schedule(worker, time, _delays(worker, workers))


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


def _keeping_first(tiles: Tiles) -> Tiles:
    """The same tiles, with workers' first ones kept: the rate needs them, then the events."""
    first = functools.cache(lambda worker_tile: tiles(worker_tile, 0))

    def tile(worker_tile: int, job_tile: int) -> FloatArray:
        return first(worker_tile) if job_tile == 0 and worker_tile < _KEPT else tiles(worker_tile, job_tile)

    return tile


def _rate(tiles: Tiles, workers: int) -> float:
    """Pushes per unit of time of all workers together, as seen in each one's first TILE jobs."""
    return sum(
        float(np.sum(TILE / tiles(worker // TILE, 0)[: workers - worker].sum(axis=1)))
        for worker in range(0, workers, TILE)
    )


def _events_until(tiles: Tiles, workers: int, horizon: float) -> tuple[IntArray, FloatArray]:
    """Worker and time of every event up to ``horizon``, each worker's own in order."""
    who: list[IntArray] = []
    many: list[IntArray] = []
    when: list[FloatArray] = []
    for first in range(0, workers, TILE):
        ids = np.arange(first, min(first + TILE, workers), dtype=np.int64)
        now = np.zeros(len(ids))
        job_tile = 0
        while now.min() <= horizon:
            times = tiles(first // TILE, job_tile)[: len(ids)].copy()
            times[:, 0] += now
            np.cumsum(times, axis=1, out=times)
            inside = times <= horizon
            who.append(ids)
            many.append(inside.sum(axis=1))
            when.append(times[inside])
            now = times[:, -1]
            job_tile += 1
    return np.repeat(np.concatenate(who), np.concatenate(many)), np.concatenate(when)


def _in_order(worker: IntArray, time: FloatArray, workers: int, precision: int = 52) -> tuple[IntArray, FloatArray]:
    """Both in order of (time, worker).

    Numbers are sorted much faster than their places. So times are sorted alone, and workers as the low
    bits of whole numbers whose high bits, at most ``precision`` of them, are a rounded time. That goes wrong only
    where different times round to the same: there, exact times decide.
    """
    bits = (workers - 1).bit_length()
    precision = min(precision, 63 - bits)
    key = _rounded(time, precision)
    key <<= bits
    key |= worker
    key.sort()
    by_time = np.sort(time)
    by_key = key & (2**bits - 1)
    key >>= bits
    wrong = np.unique(key[1:][(key[1:] == key[:-1]) & (by_time[1:] != by_time[:-1])])
    if len(wrong):
        some = np.isin(_rounded(time, precision), wrong)
        exact = np.lexsort((worker[some], time[some]))
        by_key[np.isin(key, wrong)] = worker[some][exact]
    return by_key, by_time


def _rounded(time: FloatArray, precision: int) -> IntArray:
    """(E,) whole numbers from 0 to 2^precision - 1, in the order of ``time``."""
    share: FloatArray = time / time.max()
    share *= 2**precision - 1
    return share.astype(np.int64)


def _delays(worker: IntArray, workers: int) -> IntArray:
    """(E,) pushes of others between each push and the same worker's previous one."""
    delay = np.empty(len(worker), dtype=np.int64)
    latest = np.full(workers, -1, dtype=np.int64)  # push of each worker
    places = np.arange(_CHUNK, dtype=np.int64)
    for start in range(0, len(worker), _CHUNK):
        part = worker[start : start + _CHUNK]
        key = np.sort(part * _CHUNK + places[: len(part)])  # by worker, then by place
        who, push = key // _CHUNK, key % _CHUNK + start
        previous = np.concatenate(([-1], push[:-1]))
        first = np.flatnonzero(np.diff(who, prepend=-1))
        previous[first] = latest[who[first]]
        delay[push] = push - previous - 1
        latest[who] = push  # of several, the last one stays
    return delay
