"""How long does a whole comparison take, from the command to the pictures?

Clock: wall time (time.perf_counter) of the command, start of Python included; no opponent. It is an absolute time on a
machine that others may share: compare it with nothing but itself.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from common import Row, parser, report

from unstale.experiments import Comparison
from unstale.experiments.store import Store

PAPER = "asgd,nag_asgd,sa,ga,dana,dana_sa,dana_ga"
GRID = f"digits --model resnet8 --methods {PAPER} --workers 4,8,12,16,20,24,28,32,40,48 --seeds 5"
QUICK = f"digits --model resnet8 --methods {PAPER} --workers 4,16,32 --seeds 1"
CHOICES = ("strategy", "executor")


def choices(folder: Path) -> str:
    """How the runs were computed, as they tell: how many runs said what."""
    store = Store(folder)
    configs = [store.record(trial)["config"] for trial in store.outline().trials()]
    told = [json.dumps({name: config[name] for name in CHOICES if name in config}) for config in configs]
    return "; ".join(f"{told.count(one)} runs {one}" for one in sorted(set(told)))


def measure(name: str, arguments: str) -> tuple[Row, str]:
    """Run the command; a row, and what its runs chose."""
    with TemporaryDirectory() as parent:
        folder = Path(parent) / "comparison"
        command = [sys.executable, "-m", "unstale.cli", "compare", *shlex.split(arguments), "--out", str(folder)]
        started = time.perf_counter()
        subprocess.run([*command, "--quiet"], check=True)
        seconds = time.perf_counter() - started
        results = Comparison.load(folder).results
        pushes = int(results["pushes"].sum())
        row: Row = {"comparison": name, "runs": len(results), "seconds": seconds, "pushes": pushes}
        # By its own count a run takes longer than its share of the wall: several go at a time.
        row |= {"pushes/s": pushes / seconds, "of training": float(results["seconds"].sum())}
        return row, choices(folder)


def main() -> None:
    given = parser(__doc__).parse_args()
    commands = {"table 4": QUICK if given.quick else GRID, "demo": "digits" + " --seeds 1" * given.quick}
    rows: list[Row] = []
    settings: Row = {"method": "wall time of the whole command, n = 1; absolute, on a noisy machine"}
    for name, arguments in commands.items():
        row, chosen = measure(name, arguments)
        rows.append(row)
        settings |= {name: f"unstale compare {arguments} --out DIR", f"{name} chose": chosen}
    report("table", "Seconds of wall time for a whole comparison.", rows, settings=settings)


if __name__ == "__main__":
    main()
