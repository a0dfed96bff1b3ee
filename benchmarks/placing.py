"""What is it worth that a server's vectors begin at different places of a page?

Clock: wall time of whole `Server.exchange` calls of sixteen workers in turn (DANA-GA), each pushing a gradient of its
own, sides in turn. Opponent: the same server on vectors of whole pages, as a young process is given large ones. How
much it matters depends on how many pages apart they lie, and so on d and on the processor.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
from common import Row, alternate, median, parser, ratio, report, seconds_of, threads
from torch import Tensor

import unstale
from unstale import placing

WORKERS, SIZES = 16, "85000,270000,272474,2750000"


def whole_pages(like: Tensor, place: int) -> Tensor:
    """Instead of `placing.empty`."""
    return torch.frombuffer(mmap.mmap(-1, like.nbytes), dtype=like.dtype)


def exchanging(d: int, empty: Callable[[Tensor, int], Tensor]) -> Callable[[], object]:
    """One push-and-reply a call."""
    with mock.patch.object(placing, "empty", empty):
        server = unstale.Server(torch.randn(d), "dana_ga", WORKERS, lr=0.01, executor="compiled")
        tickets = [server.pull(worker) for worker in range(WORKERS)]
        gradients = [placing.empty(server.params, placing.GRADIENT).normal_() for _ in range(WORKERS)]
    turns = itertools.cycle(range(WORKERS))

    def exchange() -> None:
        worker = next(turns)
        ticket = tickets[worker]
        assert ticket is not None
        _, tickets[worker] = server.exchange(ticket, gradients[worker])

    return exchange


def measure(d: int, rounds: int) -> Row:
    times = WORKERS * max(1, round(4e6 / d))

    def anew(empty: Callable[[Tensor, int], Tensor]) -> float:
        # Each time on other memory, for what it happens to be given matters, too.
        exchange = exchanging(d, empty)
        seconds_of(exchange, WORKERS)()
        return seconds_of(exchange, times)()

    sides = {"placed": placing.empty, "whole pages": whole_pages}
    taken = alternate({side: partial(anew, empty) for side, empty in sides.items()}, rounds)
    row: Row = {"d": f"{d:,}", **{f"{side} ms": 1e3 * median(taken[side]) for side in sides}}
    return row | {"whole pages/ placed": ratio(taken["whole pages"], taken["placed"]), "raw seconds": taken}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", default=SIZES, help=f"d, between commas; {SIZES} if not given")
    given = options.parse_args()
    rounds = 3 if given.quick else 9
    with threads(1):
        rows = [measure(int(d), rounds) for d in given.sizes.split(",")]
    told = f"wall time, medians of n = {rounds} rounds, sides in turn after one round of warm-up"
    settings: Row = {"method": told, "workers": WORKERS, "threads": 1, "dtype": "float32"}
    report("placing", "Milliseconds per push-and-reply of DANA-GA; ratio.", rows, settings=settings)


if __name__ == "__main__":
    main()
