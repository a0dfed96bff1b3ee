"""How much memory does a simulation of a thousand workers take, against the (2N + 8)·d floats that it must hold?

Method: in a fresh process, after the imports and a run with one worker, the resident memory (VmRSS); then the run, and
its peak (VmHWM, reset before). What is told is the difference. Linux only.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

from common import Row, median, parser, report

import unstale

BATCH = 32
ALLOWANCE = 100e6  # bytes: code, batches, history


def resident(what: str) -> int:
    """Bytes: VmRSS is now, VmHWM the most so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(what))


def simulate(task: unstale.Task, workers: int, strategy: str) -> int:
    """Two pushes of each worker, so that all that is kept is there; answers how many there were."""
    epochs = max(1, -(-2 * workers * BATCH // task.train_size))
    run = unstale.train(
        task,
        "dana_ga",
        workers,
        lr=0.01,
        epochs=epochs,
        batch_size=BATCH,
        drop_last=True,
        eval_every=1e9,
        strategy=strategy,
    )
    return len(run.history)


def child(workers: int, strategy: str) -> None:
    """Measure, and tell the parent."""
    task = unstale.tasks.digits("resnet20")
    d = sum(p.numel() for p in task.build(0).parameters())
    simulate(task, 1, strategy)
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
    pushes = simulate(task, workers, strategy)
    print(json.dumps({"bytes": resident("VmHWM") - before, "d": d, "pushes": pushes}))


def measure(workers: int, times: int, strategy: str) -> Row:
    """One row, of so many fresh processes."""
    command = [sys.executable, __file__, "--child", str(workers), "--strategy", strategy]
    told = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        for _ in range(times)
    ]
    taken = [one["bytes"] for one in told]
    d, pushes = told[0]["d"], told[0]["pushes"]
    bound = 4 * d * (2 * workers + 8) + ALLOWANCE
    shares = [one / bound for one in taken]
    return {
        "N": workers,
        "gradients": strategy,
        "d": d,
        "pushes": pushes,
        "peak above MB": median(taken) / 1e6,
        "least": min(taken) / 1e6,
        "most": max(taken) / 1e6,
        "bound MB": bound / 1e6,
        "peak/ bound": {"ratio": median(shares), "low": min(shares), "high": max(shares)},
        "raw bytes": taken,
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--workers", help="between commas; 1024 if not given, 64 with --quick")
    options.add_argument("--child", type=int, help="measure in this process, for so many workers")
    options.add_argument("--strategy", default="auto", help="of the child")
    given = options.parse_args()
    if given.child:
        child(given.child, given.strategy)
        return
    times = 1 if given.quick else 3
    workers = [int(one) for one in (given.workers or ("64" if given.quick else "1024")).split(",")]
    told = f"VmHWM of the run less VmRSS before it, medians of n = {times} fresh processes each"
    settings: Row = {"method": told, "task": "digits, resnet20", "batch size": BATCH, "of": "dana_ga"}
    settings |= {"bound": "(2N + 8)·d float32 + 100 MB"}
    question = "Peak memory of a simulation, above that of the process before it, in 10⁶ bytes."
    rows = [measure(one, times, strategy) for one in workers for strategy in ("auto", "sequential")]
    report("memory", question, rows, settings=settings)


if __name__ == "__main__":
    main()
