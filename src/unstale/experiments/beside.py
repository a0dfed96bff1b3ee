"""A comparison's table beside the paper's: rows of cells for the terminal, Markdown and CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from unstale.experiments import paper, tables
from unstale.experiments.outline import Outline
from unstale.experiments.tables import Cell, cells, markdown_rows

__all__ = ["Row", "csv", "markdown", "rows"]


@dataclass(frozen=True)
class Row:
    """One line of the table. ``whose``: "here" or "paper"."""

    workers: int
    whose: str
    cells: Mapping[str, Cell]


def rows(outline: Outline, results: pd.DataFrame, table: int | None) -> list[Row]:
    """For each number of workers a row of ours, and one of the paper's where it has one. table: its number there."""
    ours, theirs = cells(outline, results), _of_paper(table)
    made = []
    for n in outline.workers:
        made.append(Row(n, "here", {label: ours[n, label] for label in outline.labels}))
        if any((n, label) in theirs for label in outline.labels):
            row = {label: theirs.get((n, label), Cell()) for label in outline.labels}
            most = max((cell.mean for cell in row.values() if math.isfinite(cell.mean)), default=math.nan)
            made.append(Row(n, "paper", {label: replace(cell, best=cell.mean == most) for label, cell in row.items()}))
    return made


def markdown(labels: Sequence[str], made: Sequence[Row]) -> str:
    """The best of each row in bold."""
    heads = [(str(row.workers) if row.whose == "here" else "", row.whose) for row in made]
    return markdown_rows(("N", ""), labels, [(head, row.cells) for head, row in zip(heads, made, strict=True)])


def csv(outline: Outline, results: pd.DataFrame, table: int | None) -> pd.DataFrame:
    """A row a number of workers and method, the baseline first: mean, std, n, diverged, and the paper's."""
    ours, theirs = cells(outline, results), _of_paper(table)
    baseline = tables.baseline(outline, results)
    published = math.nan if table is None else float(paper.table(table)["baseline_accuracy"].iloc[0])
    pairs = [(1, outline.baseline_label, baseline, Cell(published))]
    pairs += [(n, label, cell, theirs.get((n, label), Cell())) for (n, label), cell in ours.items()]
    return pd.DataFrame([
        {
            "workers": n,
            "method": label,
            "mean": here.mean,
            "std": here.std,
            "n": here.n,
            "diverged": here.diverged,
            "paper_mean": there.mean,
            "paper_std": there.std,
            "paper_diverged": there.diverged > 0,
        }
        for n, label, here, there in pairs
    ])  # fmt: skip


def _of_paper(table: int | None) -> dict[tuple[int, str], Cell]:
    published = [] if table is None else paper.cells(table)
    n = paper.ASSUMED_RUNS
    return {(c.workers, c.method): Cell(c.mean, c.std, n, n if c.diverged else 0) for c in published}
