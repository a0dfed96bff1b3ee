"""Does a long run of real workers grow? Peak memory of its server, quarter by quarter, over 20,000 pushes.

Method: VmRSS of the server's process after every hundredth push; the largest of the last quarter against the largest
of the second. Two workers, a model of 51k parameters, DANA-GA, the event log on disk.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import Row, parser, report
from memory import resident
from processes import vectors

import unstale

EVERY = 100


class Watch(unstale.Callback):
    """The memory after every so many pushes."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_push(self, row: Mapping[str, Any]) -> None:
        if row["push"] % EVERY == 0:
            self.seen.append(resident("VmRSS"))


def main() -> None:
    given = parser(__doc__).parse_args()
    pushes, task, watch = 2000 if given.quick else 20_000, vectors(51_000), Watch()
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        settings: dict[str, Any] = {"lr": 0.01, "epochs": pushes * 32 / task.train_size, "drop_last": True}
        unstale.train(
            task, "dana_ga", 2, engine="processes", callbacks=[watch], eval_every=1e9, record=Path(folder) / "events",
            **settings,
        )  # fmt: skip
    quarter = len(watch.seen) // 4
    peaks = [max(watch.seen[k * quarter : (k + 1) * quarter]) for k in range(4)]
    row: Row = {"pushes": pushes, "d": 51_000}
    row |= {f"quarter {k + 1} MB": peak / 1e6 for k, peak in enumerate(peaks)}
    row |= {"last/ second": f"{peaks[3] / peaks[1]:.4f}", "raw bytes": watch.seen}
    report("long_run", "Peak resident memory of the server, in 10⁶ bytes.", [row], settings={"of": "dana_ga, N = 2"})


if __name__ == "__main__":
    main()
