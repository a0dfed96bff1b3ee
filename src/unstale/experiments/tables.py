"""The comparison as a table: methods as columns, numbers of workers as rows, mean ± standard deviation over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from unstale.experiments.outline import Outline
from unstale.experiments.results import baseline_scores

__all__ = ["MISSING", "Cell", "baseline", "caption", "cells", "footnotes", "markdown", "markdown_rows"]

MISSING = "–"


@dataclass(frozen=True)
class Cell:
    """A method's scores at one number of workers, over ``n`` seeds. ``std`` is the sample standard deviation."""

    mean: float = math.nan
    std: float = math.nan
    n: int = 0
    diverged: int = 0
    best: bool = False

    @property
    def text(self) -> str:
        """Short enough for seven of them on a line of 80: ``95.6±0.4``, ``31±20†2`` where two seeds diverged."""
        if not self.n:
            return MISSING
        spread = "" if math.isnan(self.std) or math.isnan(self.mean) else f"±{_spread(self.std, self.mean)}"
        return f"{_number(self.mean)}{spread}{self._mark}"

    @property
    def _mark(self) -> str:
        if not self.diverged:
            return ""
        return "†" if self.diverged == self.n else f"†{self.diverged}"


def cells(outline: Outline, results: pd.DataFrame) -> dict[tuple[int, str], Cell]:
    """The table's cells by (workers, label)."""
    made = {(n, label): _cell(results, n, label) for n in outline.workers for label in outline.labels}
    for n in outline.workers:
        row = {label: made[n, label] for label in outline.labels if math.isfinite(made[n, label].mean)}
        if row:
            best = max(outline.sign * cell.mean for cell in row.values())
            for label, cell in row.items():
                made[n, label] = replace(cell, best=outline.sign * cell.mean == best and cell.diverged < cell.n)
    return made


def caption(outline: Outline, results: pd.DataFrame) -> str:
    """What the numbers are, and the baseline."""
    single = len(outline.seeds) == 1
    spread = "1 seed" if single else f"mean±standard deviation over {len(outline.seeds)} seeds"
    named = f"baseline ({outline.baseline_label}, one worker)"
    return f"{outline.subject}: {outline.score_name}, {spread}; {named}: {baseline(outline, results).text}"


def baseline(outline: Outline, results: pd.DataFrame) -> Cell:
    """The baseline's scores."""
    return _of_scores(baseline_scores(outline, results))


def footnotes(outline: Outline, results: pd.DataFrame) -> list[str]:
    """What the marks mean, where there are any."""
    made = cells(outline, results).values()
    notes = []
    if any(cell.diverged for cell in made):
        chance = outline.task.get("chance")
        level = f", or no better than a constant answer ({_number(float(chance))})" if chance is not None else ""
        counted = "; †k: in k of the seeds" if any(0 < cell.diverged < cell.n for cell in made) else ""
        notes.append(f"† diverged: ended with NaN or Inf{level}{counted}.")
    if any(cell.n < len(outline.seeds) for cell in made):
        notes.append(
            f"{MISSING} or fewer seeds than {len(outline.seeds)}: runs are missing; compare again to make them."
        )
    return notes


def markdown(outline: Outline, results: pd.DataFrame, made_by: Sequence[str] = ()) -> str:
    """The table as Markdown, best of each row in bold."""
    made = cells(outline, results)
    rows = [((str(n),), {label: made[n, label] for label in outline.labels}) for n in outline.workers]
    best = "Best of each row in bold." if any(cell.best for cell in made.values()) else ""
    notes = " ".join(filter(None, [f"{caption(outline, results)}.", best, *footnotes(outline, results)]))
    return "\n".join([markdown_rows(("N",), outline.labels, rows), "", notes, "", *made_by]).rstrip() + "\n"


def markdown_rows(
    heads: Sequence[str], labels: Sequence[str], rows: Sequence[tuple[Sequence[str], Mapping[str, Cell]]]
) -> str:
    """A Markdown table of cells: ``heads`` name the first columns, whose texts each row has before its cells."""
    names = [label.replace("|", "\\|") for label in labels]
    lines = [f"| {' | '.join([*heads, *names])} |", f"|{'--:|' * (len(heads) + len(names))}"]
    for texts, row in rows:
        marked = [f"**{cell.text}**" if cell.best else cell.text for cell in (row[label] for label in labels)]
        lines.append(f"| {' | '.join([*texts, *marked])} |")
    return "\n".join(lines)


def _cell(results: pd.DataFrame, workers: int, label: str) -> Cell:
    rows = results[(results["method"] == label) & (results["workers"] == workers)]
    return replace(_of_scores(rows["score"]), diverged=int(rows["diverged"].sum()))


def _of_scores(scores: Any) -> Cell:
    """NaN in any seed makes the mean NaN: a run that has no score is not left out silently."""
    return Cell(mean=float(scores.mean(skipna=False)), std=float(scores.std(skipna=False)), n=len(scores))


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{value:g}"
    return f"{value:.1f}" if 10 <= abs(value) < 1000 else f"{value:.3g}"


def _spread(std: float, mean: float) -> str:
    """As many decimals as the mean shows, and none where the spread is ten or more."""
    if std >= 10 or not math.isfinite(std):
        return f"{std:.2g}" if std < 100 else f"{std:.0f}" if std < 1000 else f"{std:.2g}"
    return f"{std:.1f}" if 10 <= abs(mean) < 1000 else f"{std:.1g}"
