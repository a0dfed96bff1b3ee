"""What does one push-and-reply cost, for every method that never waits?

Clock: wall time (time.perf_counter) of whole `Server.exchange` calls by two workers in turn, measuring included, sides
in turn. Opponents: the same equations over whole vectors, one torch operation after the other; and a plain copy of as
many bytes as the step has to read and write. A copy fetches what it writes over, too, which a step in place has read
already: out of cache, where only memory counts, a perfect step takes 2/3 of the copy's time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import torch
from common import Row, alternate, median, parser, ratio, report, seconds_of, threads

import unstale
from unstale.kernels import Blocks, Executor
from unstale.kernels.blocks import STRETCH

SIZES = "1e5,2.75e6,25.6e6"
WAITING = {"sync", "backup", "fedbuff"}
TEMPORARIES = 12  # vectors that eager equations hold at once, at most
SPARE = 2**30


def server(method: str, d: int, executor: str | Executor) -> unstale.Server:
    """With two workers, and a normal point to start from."""
    return unstale.Server(torch.randn(d), method, workers=2, lr=0.01, executor=executor)


def traffic(method: str) -> tuple[int, int, int]:
    """Vectors that a push-and-reply reads and writes, and those that a server keeps."""
    memory = server(method, STRETCH, "blocks")._memory
    touched = sum(array.ndim > 0 for array in memory.arrays(0).values())
    rows = sum(row.ndim > 0 for row in memory.rows[0].values()) + memory.keep_points
    # The gradient is only read; the reply's point is always written.
    return touched + 1 + memory.keep_points, touched + 1, touched + memory.keep_points + rows


def exchanging(method: str, d: int, executor: str | Executor, gradient: torch.Tensor) -> Callable[[], object]:
    """One push-and-reply a call, the workers in turn."""
    of = server(method, d, executor)
    tickets = {worker: of.pull(worker) for worker in of.workers}
    turns = itertools.cycle(of.workers)

    def exchange() -> None:
        worker = next(turns)
        ticket = tickets[worker]
        assert ticket is not None
        _, tickets[worker] = of.exchange(ticket, gradient)

    return exchange


def measure(method: str, d: int, rounds: int) -> Row:
    """One row: every side on memory of its own."""
    reads, writes, _ = traffic(method)
    gradient = 0.01 * torch.randn(d)
    source = torch.ones((reads + writes) * d // 2)
    target = torch.empty_like(source)
    naive = Blocks(size=-(-d // STRETCH) * STRETCH)
    actions = {
        side: exchanging(method, d, executor, gradient)
        for side, executor in (("blocks", "blocks"), ("compiled", "compiled"), ("naive", naive))
    }
    actions["copy"] = lambda: target.copy_(source)
    times = 2 * max(1, round(1e7 / d))
    taken = alternate({side: seconds_of(action, times) for side, action in actions.items()}, rounds)
    row: Row = {"method": method, "d": f"{d:,}" if d < 1e6 else f"{d / 1e6:g}M", "r+w": f"{reads}+{writes}"}
    row |= {f"{side} ms": 1e3 * median(taken[side]) for side in ("blocks", "compiled", "naive")}
    row |= {f"naive/ {side}": ratio(taken["naive"], taken[side]) for side in ("blocks", "compiled")}
    return row | {"compiled/ copy": ratio(taken["compiled"], taken["copy"]), "raw seconds": taken}


def room(method: str, d: int) -> bool:
    """Whether all sides fit into the memory that is free now."""
    reads, writes, kept = traffic(method)
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return 4 * d * (3 * kept + 1 + reads + writes + TEMPORARIES) + SPARE <= available


def main() -> None:
    names = [name for name in unstale.methods.names() if name not in WAITING]
    options = parser(__doc__)
    options.add_argument("--sizes", help=f"d, between commas; {SIZES} if not given")
    options.add_argument("--methods", help="between commas; all that never wait if not given")
    options.add_argument("--threads", type=int, default=1, help="torch threads of every side; 1, as in a simulation")
    given = options.parse_args()
    rounds = 3 if given.quick else 9
    sizes = (given.sizes or ("1e5" if given.quick else SIZES)).split(",")
    methods = (given.methods or ("asgd,dana_ga" if given.quick else ",".join(names))).split(",")
    rows: list[Row] = []
    with threads(given.threads):
        for d, method in itertools.product(map(int, map(float, sizes)), methods):
            if room(method, d):
                rows.append(measure(method, d, rounds))
            else:
                print(f"{method} with d = {d:,} is left out: it does not fit into the memory that is free")
    told = f"wall time, medians of n = {rounds} rounds, sides in turn after one round of warm-up"
    settings: Row = {"method": told, "workers": 2, "threads": given.threads, "dtype": "float32"}
    settings |= {"gradient": "the same each time", "r+w": "vectors of d elements that a step reads and writes"}
    if rows:
        report("server_step", "Milliseconds per push-and-reply; ratios.", rows, settings=settings)


if __name__ == "__main__":
    main()
