"""The lines of a progress bar, as text that fits into a width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

__all__ = ["bar", "worker_lines"]

_BUSY = ("idle", "busy")


def bar(share: float, width: int) -> str:
    """So much of the way."""
    done = round(max(0, width) * min(1.0, share))
    return "━" * done + "╌" * (width - done)


def worker_lines(workers: Sequence[Mapping[str, Any]], room: int, most: int) -> list[Text]:
    """A line for each worker of `LiveRun.stats`, at most so many: delay, speed, and what is not as it should be."""
    shown = workers if len(workers) <= most else workers[: max(0, most - 1)]
    lines = [_worker_line(worker) for worker in shown]
    if 0 < len(shown) < len(workers):
        lines.append(Text(f"  and {len(workers) - len(shown)} workers more", "dim"))
    for line in lines:
        line.truncate(room)
    return lines


def _worker_line(worker: Mapping[str, Any]) -> Text:
    seconds = worker["mean_seconds"]
    speed = 1 / seconds if seconds else math.nan
    usual = worker["state"] in _BUSY
    again = f"  {worker['restarts']} restarts" if worker["restarts"] else ""
    return Text.assemble(
        f"  worker {worker['worker']:>3}  {worker['pushes']:>7,} pushes",
        f"  delay {worker['mean_delay']:>5.1f}" if worker["accepted"] else "  delay     –",
        f"  {speed:>6.1f}/s" if seconds else "       –/s",
        ("" if usual else f"  {worker['state']}", "yellow"),
        (again, "yellow"),
    )
