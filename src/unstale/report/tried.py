"""The page of a tuning."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from unstale.experiments import Tuning
from unstale.heatmap import heatmap_figure
from unstale.report.page import Cell, Page, Section, Table, flat, picture

__all__ = ["tuning_page"]


def tuning_page(folder: Path) -> Page:
    """From what is stored; unfinished tunings too. Raises `StoreError` if it is damaged."""
    tuning = Tuning.load(folder)
    with tempfile.TemporaryDirectory(prefix="unstale-") as place:
        heatmap_figure(tuning).savefig(Path(place) / "heatmap.png")
        drawn = picture(Path(place) / "heatmap.png")
    states = tuning.trials["state"].value_counts().to_dict()
    facts = {"best": ", ".join(f"{name} {_short(value)}" for name, value in tuning.best_params.items())} | {
        "score": _short(tuning.best_score),
        **{f"trials {state}": str(count) for state, count in states.items()},
    }
    ends = [f"The best {name} is at an end of what was tried: better ones may lie beyond." for name in tuning.edges()]
    none = [] if tuning.best is not None else ["No trial has finished without diverging."]
    made = tuning.about["made"]
    return Page(
        title=tuning.title,
        subtitle=f"Tuned over {' and '.join(tuning.space)}; {_seeds(len(tuning.about['seeds']))}",
        facts=facts if tuning.best is not None else {key: facts[key] for key in list(facts)[2:]},
        alerts=[*none, *ends],
        sections=[
            Section("Score over what was tuned", pictures=[("", drawn)] if drawn else []),
            Section("Every trial", tables=[_trials(tuning)]),
            Section("Configuration", pairs=flat({k: v for k, v in tuning.about.items() if k != "made"})),
        ],
        made=f"Made by {made.get('command')} on {made.get('date')}.",
    )


def _trials(tuning: Tuning) -> Table:
    best = None if tuning.best is None else tuning.best["trial"]
    rows = []
    for record in tuning.trials.to_dict("records"):
        dead = record["seeds"] > 0 and record["diverged"] >= record["seeds"]
        row = [_cell(record[name]) for name in tuning.trials.columns]
        at = list(tuning.trials.columns).index("score")
        mark = "best" if record["trial"] == best else "bad" if dead else ""
        row[at] = Cell(row[at].text + ("†" if dead else ""), row[at].value, mark, "diverged" if dead else "")
        rows.append(row)
    return Table(
        "Every trial", [Cell(str(name)) for name in tuning.trials.columns], rows, ["† diverged; best in bold."]
    )


def _cell(value: Any) -> Cell:
    nothing = isinstance(value, float) and math.isnan(value)
    return Cell("–" if nothing else _short(value), None if nothing else value)


def _seeds(count: int) -> str:
    return "one seed each" if count == 1 else f"the mean over {count} seeds decides"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
