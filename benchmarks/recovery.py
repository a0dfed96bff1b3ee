"""What does a `kill -9` of one worker of eight cost: pushes lost, and how long until the rate is back?

Workers are slowed down to 50 ms a gradient, so that two cores can stand for eight machines. One is killed when half of
all pushes are made. Clock: wall time of pushes at the server, in windows of half a second; before: the median of the
windows before the kill; back: the end of the first window after the restart that has 95% of that.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

import numpy as np
from common import Row, median, parser, report
from processes import vectors

import unstale
from unstale.clocks import Gamma
from unstale.engines.live.processes import Processes

WORKERS, WINDOW = 8, 0.5
PACE = Gamma(mean=0.05, cv=0.1)


class Kill(unstale.Callback):
    """At one push, the process of the worker that comes next."""

    def __init__(self, push: int) -> None:
        self.push = push
        self.live: unstale.LiveRun | None = None

    def on_push(self, row: Mapping[str, Any]) -> None:
        if row["push"] == self.push and self.live is not None:
            fleet = self.live._conductor.fleet
            assert isinstance(fleet, Processes)
            os.kill(fleet.process((row["worker"] + 1) % WORKERS), signal.SIGKILL)


def once(pushes: int) -> dict[str, float]:
    kill, task = Kill(pushes // 2), vectors()
    given: dict[str, Any] = {"pace": PACE, "lr": 0.01, "epochs": pushes * 32 / task.train_size, "eval_every": 1e9}
    live = unstale.launch(task, "dana_ga", WORKERS, callbacks=[kill], drop_last=True, **given)
    kill.live = live
    run = live.result()
    events = run.events
    assert events is not None
    times = run.history["time"].to_numpy()
    died = float(events.loc[events["kind"] == "depart", "time"].iloc[0])
    came = float(events.loc[(events["kind"] == "join") & (events["time"] > died), "time"].iloc[0])
    rates = np.histogram(times, np.arange(times[0], times[-1], WINDOW))[0]
    starts = times[0] + WINDOW * np.arange(len(rates))
    usual = float(np.median(rates[starts + WINDOW < died]))
    after = [(s, r) for s, r in zip(starts, rates, strict=True) if s >= came]
    back = next((s + WINDOW - came for s, r in after if r >= 0.95 * usual), np.inf)
    dip = min(r for s, r in zip(starts, rates, strict=True) if died - WINDOW < s < came + WINDOW) / usual
    issued = int((events["outcome"] == "issued").sum() + (events["reply"] >= 0).sum())
    lost = issued - int(events["kind"].isin(["push", "exchange"]).sum())
    return {"lost": lost, "away s": came - died, "back s": back, "lowest rate": dip, "usual /s": usual / WINDOW}


def main() -> None:
    given = parser(__doc__).parse_args()
    times, pushes = (1, 800) if given.quick else (5, 2400)
    found = [once(pushes) for _ in range(times)]
    row: Row = {"workers": WORKERS, "pushes": pushes}
    for name in found[0]:
        each = [one[name] for one in found]
        row |= {name: median(each), f"raw {name}": each}
    row["most back s"] = max(one["back s"] for one in found)
    settings: Row = {"method": f"medians of n = {times} runs", "pace": str(PACE), "d": 270_000, "of": "dana_ga"}
    report("recovery", "One worker of eight is killed.", [row], settings=settings)


if __name__ == "__main__":
    main()
