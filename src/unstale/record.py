"""What happened in a run, push by push; kept, looked at, saved and loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from unstale import checks
from unstale.describe import Plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["EVALUATION_COLUMNS", "HISTORY_COLUMNS", "Run"]

HISTORY_COLUMNS = {
    "push": "int64",
    "progress": "float64",
    "epoch": "int64",
    "stream": "int64",
    "reset": "bool",
    "time": "float64",
    "worker": "int64",
    "delay": "int64",
    "gap": "float64",
    "normalised_gap": "float64",
    "penalty": "float64",
    "loss": "float64",
    "lr": "float64",
    "outcome": "str",
    "finite": "bool",
    "extreme": "int64",
}
EVALUATION_COLUMNS = {
    "progress": "float64",
    "time": "float64",
    "pushes": "int64",
    "loss": "float64",
    "score": "float64",
}
USED = ("applied", "held")


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run, finished or not.

    config: what it was, as JSON values. params: the model's parameters and buffers by name.
    history: one row per push. push counts from 0; progress and lr are those before the push; epoch is the data epoch
        of its batch; stream is that of its batch (-1 for none), and reset tells that the stream's memory was lost
        before it; time is simulated, in units of the clock, or of a real run in seconds; gap, normalised_gap, penalty
        as in `Receipt`; delay is -1, and loss NaN, where the ticket did not count any more.
    evaluations: one row per evaluation of θ: progress (epochs), time, pushes so far, loss and score on the test set.
    status: "finished", "stopped" (by a callback or at divergence), "interrupted" or "failed". seconds: of wall time.
    cancelled: gradients given up while they were computed. quarantined: batches given up after three failures.
    members: of a real run, what became of each worker: pushes, mean delay, restarts, why it was lost.
    events: of a real run, every call of the server (`unstale.events.Event`).
    """

    config: Mapping[str, Plain]
    history: pd.DataFrame
    evaluations: pd.DataFrame
    params: Mapping[str, Tensor]
    status: str = "finished"
    seconds: float = 0.0
    cancelled: int = 0
    quarantined: tuple[int, ...] = ()
    members: tuple[Mapping[str, Plain], ...] = ()
    events: pd.DataFrame | None = None

    @property
    def score(self) -> float:
        """The last evaluation's score: test accuracy in percent, for classification."""
        return float(self.evaluations["score"].iloc[-1]) if len(self.evaluations) else math.nan

    @property
    def diverged(self) -> bool:
        """Whether the model ended with NaN or Inf, or no better than the best constant answer."""
        task = self.config.get("task")
        chance = task.get("chance") if isinstance(task, Mapping) else None
        broken = not all(bool(value.isfinite().all()) for value in self.params.values() if value.is_floating_point())
        sign = 1 if not isinstance(task, Mapping) or task.get("higher_is_better", True) else -1
        at_chance = isinstance(chance, int | float) and sign * self.score <= sign * chance
        # Where nothing is evaluated, only the parameters can tell.
        return broken or bool(len(self.evaluations) and not math.isfinite(self.score)) or at_chance

    def __repr__(self) -> str:
        task, method = self.config.get("task"), self.config.get("method")
        named = " ".join(str(part.get("name")) for part in (task, method) if isinstance(part, Mapping))
        told = f"score {self.score:.4g} after {len(self.history)} pushes{', diverged' if self.diverged else ''}"
        who = f"{named}, {self.config.get('workers')} workers, seed {self.config.get('seed')}"
        return f"<Run: {who}, {self.status}: {told}>"

    def summary(self) -> dict[str, Plain]:
        """The run in some numbers; means are over the gradients that were used.

        wasted: gradients that were not: dropped + rejected (NaN, Inf) + late (or pushed a second time) + cancelled
        (given up while they were computed, and not pushed). restarts: of workers, which in simulated time never fail.
        simulated_time: of the last push, in the clock's unit; of a real run, time, in seconds. seconds: of wall time.
        """
        used = self.history[self.history["outcome"].isin(USED)]
        became = self.history["outcome"].value_counts()
        time = "simulated_time" if self.config.get("engine", "simulate") == "simulate" else "time"
        return {
            "score": self.score,
            "diverged": self.diverged,
            "status": self.status,
            "pushes": len(self.history),
            "wasted": len(self.history) - len(used) + self.cancelled,
            "dropped": int(became.get("dropped", 0)),
            "rejected": int(became.get("rejected", 0)),
            "late": int(became.get("late", 0) + became.get("spent", 0)),
            "cancelled": self.cancelled,
            "mean_delay": _mean(used, "delay"),
            "mean_gap": float(used["gap"].mean(skipna=False)),
            # The first pushes have none; after them a NaN is a gap that was not finite, and must not be passed over.
            "mean_normalised_gap": _mean(used, "normalised_gap") if used["gap"].notna().all() else math.nan,
            "mean_penalty": _mean(used, "penalty"),
            time: float(self.history["time"].max()) if len(self.history) else 0.0,
            "nonfinite": int((~self.history["finite"]).sum()),
            "extreme": int(self.history["extreme"].sum()),
            "quarantined": list(self.quarantined),
            "restarts": sum(int(str(member["restarts"])) for member in self.members),
            "seconds": self.seconds,
        }

    def load_into(self, module: nn.Module) -> nn.Module:
        """Put the trained parameters and buffers into ``module``."""
        module.load_state_dict(dict(self.params))
        return module

    def plot(self) -> Figure:
        """Loss, score, delay and gap over the run, as a matplotlib figure."""
        from unstale.plots import run_figure

        return run_figure(self)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write config.json, history.parquet, evaluations.parquet and params.safetensors into ``folder``.

        Of a real run also events, unless they are there, and timeline.json (`unstale.timing.timeline`).
        Whole or not at all. Raises `StoreError` if it holds a run already (unless ``overwrite``), or cannot be written.
        """
        from unstale.storage import save_run

        return save_run(self, checks.path("folder", folder), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read what `save` wrote; no code runs. Raises `StoreError` if it is missing or damaged."""
        from unstale.storage import load_run

        return load_run(checks.path("folder", folder))


def _mean(rows: pd.DataFrame, column: str) -> float:
    return float(rows[column].mean()) if len(rows) else math.nan
