"""Every run of a comparison: its numbers, its configuration, its machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unstale.drawing import look
from unstale.experiments import Comparison
from unstale.experiments.outline import Trial
from unstale.experiments.store import Store
from unstale.experiments.tables import MISSING
from unstale.report.page import Cell, Section, Table, flat

__all__ = ["alerts", "colour", "runs_table", "settings", "value"]

_COLUMNS = {
    "method": "method",
    "workers": "N",
    "seed": "seed",
    "score": "score",
    "speedup": "speed-up",
    "mean_delay": "delay",
    "mean_normalised_gap": "normalised gap",
    "mean_gap": "gap",
    "mean_penalty": "penalty",
    "wasted": "wasted",
    "seconds": "seconds",
}


def alerts(comparison: Comparison) -> list[str]:
    """What a reader must know of runs that are not there."""
    missing, total = comparison.missing, len(comparison.outline.trials())
    if not missing:
        return []
    names = "; ".join(map(str, missing[:4])) + ("; …" if len(missing) > 4 else "")
    what = "No run has finished yet" if len(missing) == total else f"{len(missing)} of {total} runs are missing"
    return [f"{what} (failed, or not reached): {names}. The command that began this comparison makes them."]


def runs_table(comparison: Comparison, name: str = "Every run") -> Table:
    """A row a run."""
    rows = []
    labels = comparison.outline.labels
    for record in comparison.results.to_dict("records"):
        row = [Cell(str(record["method"]), record["method"], colour=colour(str(record["method"]), labels))]
        row += [Cell(_short(record[column]), value(record[column])) for column in list(_COLUMNS)[1:]]
        if record["diverged"]:
            row[3] = Cell(f"{row[3].text}†", row[3].value, "bad", "diverged")
        rows.append(row)
    notes = ["speed-up: over synchronous training on the same clock. † diverged. Means are over the gradients used."]
    return Table(name, [Cell(title) for title in _COLUMNS.values()], rows, notes)


def settings(comparison: Comparison, title: str = "Configuration and machine") -> Section:
    """What all runs share once, and what is a run's own under its name; machine and versions are among them."""
    missing, store = set(comparison.missing), Store(comparison.folder)
    records = {trial: store.record(trial) for trial in comparison.outline.trials() if trial not in missing}
    configs = {trial: flat(record["config"]) for trial, record in records.items()}
    every = list(configs.values())
    shared = {k: v for k, v in every[0].items() if all(c.get(k) == v for c in every)} if every else {}
    folded = [
        (
            f"{trial}{_end(records[trial])}",
            {k: v for k, v in config.items() if k not in shared} | _times(records[trial]),
        )
        for trial, config in configs.items()
    ]
    folded += [(f"{trial} – missing", _NOT_THERE) for trial in _in_order(missing, comparison)]
    lead = f"What all {len(every)} runs share; below, what is each run’s own." if every else "No run has finished yet."
    return Section(title, lead=lead, pairs=shared or flat(comparison.outline.settings), folded=folded)


_NOT_THERE = {"status": "it failed, or was not reached"}


def _in_order(trials: set[Trial], comparison: Comparison) -> Sequence[Trial]:
    return [trial for trial in comparison.outline.trials() if trial in trials]


def _end(record: Mapping[str, Any]) -> str:
    summary = record["summary"]
    return f" – {_short(summary['score'])}{', diverged' if summary['diverged'] else ''}"


def _times(record: Mapping[str, Any]) -> dict[str, str]:
    summary = record["summary"]
    return {
        name: _short(summary[name])
        for name in ("status", "pushes", "nonfinite", "extreme", "seconds")
        if name in summary
    }


def colour(label: str, labels: Sequence[str]) -> str:
    """A method's, as in the pictures."""
    return str(look(label, labels if label in labels else [*labels, label])["color"])


def value(given: Any) -> Any:
    """What a cell is sorted by: None instead of NaN."""
    return None if isinstance(given, float) and math.isnan(given) else given


def _short(given: Any) -> str:
    if isinstance(given, float) and math.isnan(given):
        return MISSING
    return f"{given:.4g}" if isinstance(given, float) else str(given)
