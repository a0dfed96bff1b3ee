"""From runs to tables of numbers: a row a run, a row an epoch, a row an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from unstale.experiments.outline import Outline, Trial
from unstale.record import USED, Run

__all__ = ["COLUMNS", "baseline_scores", "curves", "epochs", "results", "used_pushes"]

_FROM_SUMMARY = {
    "score": "float64",
    "diverged": "bool",
    "pushes": "int64",
    "wasted": "int64",
    "mean_delay": "float64",
    "mean_gap": "float64",
    "mean_normalised_gap": "float64",
    "mean_penalty": "float64",
    "simulated_time": "float64",
}
COLUMNS = {
    "task": "str",
    "model": "str",
    "method": "str",
    "workers": "int64",
    "seed": "int64",
    **_FROM_SUMMARY,
    "speedup": "float64",
    "seconds": "float64",
}
"""The columns of results.csv, and their types."""


def results(outline: Outline, summaries: Mapping[Trial, Mapping[str, Any]]) -> pd.DataFrame:
    """A row a run, in the order of ``outline.trials()``; ``summaries`` are those of `Run.summary`.

    speedup: time of synchronous training of the same epochs on the same clock, over the run's simulated time.
    """
    rows = [_row(outline, trial, summaries[trial]) for trial in outline.trials() if trial in summaries]
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()})


def _row(outline: Outline, trial: Trial, summary: Mapping[str, Any]) -> dict[str, Any]:
    synchronous, time = outline.synchronous_time[trial.workers, trial.seed], summary["simulated_time"]
    return {
        "task": outline.task.get("name"),
        "model": outline.task.get("model_name"),
        "method": trial.label,
        "workers": trial.workers,
        "seed": trial.seed,
        **{name: summary[name] for name in _FROM_SUMMARY},
        "speedup": synchronous / time if time else float("nan"),
        "seconds": summary["seconds"],
    }


def baseline_scores(outline: Outline, table: pd.DataFrame) -> pd.Series[float]:
    """The baseline's scores by seed, from a table of results."""
    return _of(table, outline.baseline_label, 1)


def _of(table: pd.DataFrame, label: str, workers: int) -> pd.Series[float]:
    rows = table[(table["method"] == label) & (table["workers"] == workers)]
    return rows.set_index("seed")["score"]


def epochs(runs: Iterable[tuple[Trial, Run]]) -> pd.DataFrame:
    """Method, workers, seed, epoch, delay, normalised_gap: means over an epoch's used pushes in a run."""
    parts = [
        used_pushes(run)
        .groupby("epoch", as_index=False)[["delay", "normalised_gap"]]
        .mean()
        .assign(method=trial.label, workers=trial.workers, seed=trial.seed)
        for trial, run in runs
    ]
    names = ["method", "workers", "seed", "epoch", "delay", "normalised_gap"]
    return pd.concat(parts, ignore_index=True)[names] if parts else pd.DataFrame({name: [] for name in names})


def used_pushes(run: Run) -> pd.DataFrame:
    """The history's rows of gradients that were used."""
    return run.history[run.history["outcome"].isin(USED)]


def curves(runs: Iterable[tuple[Trial, Run]]) -> pd.DataFrame:
    """Method, evaluation, time, score, spread: the k-th evaluations of a method's runs, mean and standard deviation."""
    parts = [
        run.evaluations[["time", "score"]].assign(method=trial.label, evaluation=range(len(run.evaluations)))
        for trial, run in runs
    ]
    if not parts:
        return pd.DataFrame({"method": [], "evaluation": [], "time": [], "score": [], "spread": []})
    together = pd.concat(parts).groupby(["method", "evaluation"], sort=False, as_index=False)
    return together.agg(time=("time", "mean"), score=("score", "mean"), spread=("score", "std"))
