"""What became of the workers of a real run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from unstale.callbacks import in_short
from unstale.cli.output import out, say

__all__ = ["print_members"]

_SHOWN = 32  # workers
_TOLD = 8  # of those that were lost
_COUNTS = ("pushes", "restarts", "dropped", "late")


def print_members(members: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    """A line for each worker, why workers were lost, and what was given up. Nothing for a simulated run.

    delay: the mean one; seconds: what a gradient took of late, sending included.
    """
    if not members:
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in ("worker", "pushes", "delay", "seconds", "restarts", "dropped", "late", "state"):
        table.add_column(name, justify="right", no_wrap=True)
    for member in members[:_SHOWN]:
        style = "yellow" if member["failures"] else ""
        table.add_row(
            *_cells(str(member["worker"]), member, f"{member['mean_seconds']:.3g}", member["state"]), style=style
        )
    if len(members) > 1:
        accepted = sum(member["accepted"] for member in members)
        delays = sum(member["mean_delay"] * member["accepted"] for member in members)
        total = {name: sum(member[name] for member in members) for name in _COUNTS}
        table.add_row(*_cells("all", {**total, "mean_delay": delays / max(accepted, 1)}, "", ""), style="bold")
    out().print(table)
    if len(members) > _SHOWN:
        say(f"and {len(members) - _SHOWN} workers more, which config.json has")
    lost = [member for member in members if member["failures"]]
    for member in lost[:_TOLD]:
        console = out()
        text = Text(f"worker {member['worker']} was lost: {in_short(member['failures'][-1])}", "yellow")
        console.print(text, soft_wrap=not console.is_terminal)
    if len(lost) > _TOLD:
        say(f"and {len(lost) - _TOLD} workers more were lost", "yellow")
    if summary["rejected"]:
        say(f"dropped because they held NaN or Inf: {summary['rejected']:,}", "yellow")
    if summary["cancelled"]:
        say(f"given up while they were computed: {summary['cancelled']:,}")
    if summary["quarantined"]:
        say(f"batches given up after three failures: {', '.join(map(str, summary['quarantined']))}", "yellow")


def _cells(worker: str, row: Mapping[str, Any], seconds: str, state: str) -> list[str]:
    counts = {name: f"{row[name]:,}" for name in _COUNTS}
    delay = f"{row['mean_delay']:.1f}"
    return [worker, counts["pushes"], delay, seconds, counts["restarts"], counts["dropped"], counts["late"], state]
