"""How many events per second does a clock's schedule make, against a plain loop over a heap of workers?

Method: gamma clock, cv = 0.1, equal machines; both sides draw their durations in the time measured, and give worker,
time and delay of every push. The loop takes its draws from numpy in large shared blocks. It is timed on fewer events,
and compared by events per second; its heap of workers is full from the start.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator

import numpy as np
from common import Row, alternate, median, parser, ratio, report

from unstale.clocks import Gamma

CV = 0.1
BLOCK = 2**16


def draws(seed: int) -> Iterator[float]:
    rng = np.random.default_rng(seed)
    while True:
        yield from (rng.standard_gamma(1 / CV**2, BLOCK) * CV**2).tolist()


def by_heap(workers: int, pushes: int, seed: int) -> tuple[list[int], list[float], list[int]]:
    """Worker, time and delay of each push, one after the other."""
    draw = draws(seed).__next__
    heap = [(draw(), worker) for worker in range(workers)]
    heapq.heapify(heap)
    pulled = [0] * workers
    who, when, delays = [], [], []
    for version in range(pushes):
        now, worker = heapq.heappop(heap)
        who.append(worker)
        when.append(now)
        delays.append(version - pulled[worker])
        pulled[worker] = version + 1
        heapq.heappush(heap, (now + draw(), worker))
    return who, when, delays


def per_event(make: Callable[[], object], pushes: int) -> Callable[[], float | None]:
    """A side of the comparison: seconds for each event."""

    def side() -> float:
        started = time.perf_counter()
        make()
        return (time.perf_counter() - started) / pushes

    return side


def compare(workers: int, pushes: int, heap_pushes: int, rounds: int) -> Row:
    sides = {
        "heap": per_event(lambda: by_heap(workers, heap_pushes, 0), heap_pushes),
        "schedule": per_event(lambda: Gamma(cv=CV).schedule(workers, pushes, 0), pushes),
        "drawing": per_event(lambda: np.random.default_rng(0).standard_gamma(1 / CV**2, heap_pushes), heap_pushes),
    }
    seconds = alternate(sides, rounds)
    return {
        "workers": workers,
        "events": pushes,
        "events of the heap": heap_pushes,
        "heap, events/s": 1 / median(seconds["heap"]),
        "schedule, events/s": 1 / median(seconds["schedule"]),
        "heap : schedule": ratio(seconds["heap"], seconds["schedule"]),
        "drawing : schedule": ratio(seconds["drawing"], seconds["schedule"]),
        "raw seconds per event": seconds,
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    rounds = 2 if options.quick else 5
    sizes = [(1000, 10**5, 10**5)] if options.quick else [(32, 10**6, 10**6), (100_000, 10**7, 10**6)]
    rows = [compare(*size, rounds) for size in sizes]
    question = "Events per second of a schedule, drawing included: a loop over a heap, and clock.schedule"
    report("schedule", question, rows, settings={"clock": f"gamma, cv {CV}", "rounds": rounds})


if __name__ == "__main__":
    main()
