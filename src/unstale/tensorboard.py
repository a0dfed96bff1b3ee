"""A run's numbers in TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstale import checks
from unstale.callbacks import Callback
from unstale.errors import MissingPackageError
from unstale.measure import VOID

if TYPE_CHECKING:
    from unstale.engines.base import Plan
    from unstale.record import Run

__all__ = ["TensorBoard"]

_OF_PUSHES = ("loss", "delay", "gap", "normalised_gap", "penalty", "lr")


class TensorBoard(Callback):
    """Writes scalars into ``folder``, over the number of pushes: look with ``tensorboard --logdir folder``.

    train/loss, delay, gap, normalised_gap, penalty, lr: means over ``every`` pushes. test/loss, test/score. Of a real
    run also workers/alive and workers/pushes_per_second, and each worker's delay and seconds; why workers were lost is
    a text.

    Raises `MissingPackageError` without the package tensorboard; `ArgumentError` for every < 1.
    """

    def __init__(self, folder: str | Path, *, every: int = 10) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingPackageError("TensorBoard", "tensorboard", "tensorboard") from error
        self._every = checks.whole("every", every, 1)
        self._writer = SummaryWriter(str(folder))
        self._rows: list[Mapping[str, Any]] = []
        self._pushes = 0

    def on_start(self, plan: Plan) -> None:
        """The configuration, as a text."""
        about = json.dumps(plan.describe(), indent=1)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in about.splitlines()))

    def on_push(self, row: Mapping[str, Any]) -> None:
        """Write, once there are enough."""
        self._pushes = row["push"] + 1
        if row["outcome"] not in VOID:
            self._rows.append(row)
        if len(self._rows) >= self._every:
            self._write_rows()

    def on_evaluation(self, row: Mapping[str, Any]) -> None:
        """At once."""
        for name in ("loss", "score"):
            self._write(f"test/{name}", row[name])

    def on_stats(self, stats: Mapping[str, Any]) -> None:
        """How the workers are."""
        for name in ("alive", "pushes_per_second"):
            self._write(f"workers/{name}", stats[name])
        for worker in stats["workers"]:
            self._write(f"delay/worker {worker['worker']}", worker["mean_delay"])
            self._write(f"seconds/worker {worker['worker']}", worker["mean_seconds"])

    def on_incident(self, worker: int, reason: str) -> None:
        """Why, in full."""
        text = "\n".join(f"    {line}" for line in (f"worker {worker}:", *reason.splitlines()))
        self._writer.add_text("incidents", text, self._pushes)

    def on_end(self, run: Run) -> None:
        """Write what is left."""
        self._write_rows()
        self._writer.close()

    def _write_rows(self) -> None:
        for name in _OF_PUSHES:
            # The first pushes have no normalised gap.
            values = [row[name] for row in self._rows if not math.isnan(row[name])]
            if values:
                self._write(f"train/{name}", sum(values) / len(values))
        self._rows.clear()

    def _write(self, name: str, value: float) -> None:
        self._writer.add_scalar(name, value, self._pushes)
