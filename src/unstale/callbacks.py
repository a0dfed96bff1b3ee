"""What looks on while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import shorten
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unstale.engines.base import Plan
    from unstale.record import Run

__all__ = ["Callback", "StopRun", "in_short"]


class StopRun(Exception):  # noqa: N818  (a request, not an error)
    """Raise it in a callback to end the run after this push; what was computed is kept."""


class Callback:
    """Derive from it and override what you need. Rows are those of `Run.history` and `Run.evaluations`."""

    def on_start(self, plan: Plan) -> None:
        """Before the first pull, and before a run goes on from a checkpoint."""

    def on_push(self, row: Mapping[str, Any]) -> None:
        """After each push."""

    def on_evaluation(self, row: Mapping[str, Any]) -> None:
        """After each evaluation."""

    def on_incident(self, worker: int, reason: str) -> None:
        """When a worker of a real run is lost; ``reason`` may be a traceback."""

    def on_stats(self, stats: Mapping[str, Any]) -> None:
        """About once a second of a real run: what `LiveRun.stats` answers."""

    def on_end(self, run: Run) -> None:
        """After the last push, also when the run was stopped or interrupted."""


def in_short(reason: str) -> str:
    """One line of it: the last, in which a traceback says what happened; its beginning, if it is a long one."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return shorten(lines[-1], 160, placeholder=" …") if lines else "for no reason that is known"
