"""What a comparison's results say about one method against another, over the same seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from unstale.experiments.outline import BASELINE, Outline

__all__ = ["Evidence", "Margin"]

ENOUGH = 3
"""Fewer seeds than this confirm nothing."""


@dataclass(frozen=True)
class Margin:
    """By how much one method is better than another at one number of workers; above 0 is better.

    Infinite where one of the two diverged. std: of the differences over the seeds that both have, NaN for a single one.
    """

    label: str
    over: str
    workers: int
    mean: float
    std: float
    n: int

    @property
    def clear(self) -> bool:
        """Whether the mean is two standard errors or more from 0, over enough seeds."""
        return self.n >= ENOUGH and abs(self.mean) >= 2 * self.std / math.sqrt(self.n)

    def __str__(self) -> str:
        if not math.isfinite(self.mean):
            return f"{self.over if self.mean > 0 else self.label} diverged at N = {self.workers}"
        spread = "" if math.isnan(self.std) else f"±{self.std:.1f}"
        return f"{self.mean:+.1f}{spread} at N = {self.workers}".replace("-", "−")


@dataclass(frozen=True)
class Evidence:
    """Results, and per-epoch delays and gaps at the largest number of workers."""

    outline: Outline
    results: pd.DataFrame
    epochs: pd.DataFrame

    @cached_property
    def _cells(self) -> dict[tuple[str, int], pd.DataFrame]:
        """Rows of results by (label, workers)."""
        pairs = zip(self.results["method"], self.results["workers"], strict=True)
        table = self.results
        return {(m, n): table[(table["method"] == m) & (table["workers"] == n)] for m, n in dict.fromkeys(pairs)}

    @cached_property
    def _scores(self) -> dict[tuple[str, int], pd.Series[float]]:
        return {key: rows.set_index("seed")["score"] for key, rows in self._cells.items()}

    @cached_property
    def _diverged(self) -> dict[tuple[str, int], bool]:
        return {key: bool(rows["diverged"].all()) for key, rows in self._cells.items()}

    @property
    def n(self) -> int:
        """Seeds that every method has at every number of workers, as far as they have run."""
        return min((len(rows) for rows in self._cells.values()), default=0)

    @property
    def baseline(self) -> float:
        """The baseline's mean score; NaN if it has not run."""
        return self.mean(BASELINE, 1)

    def mean(self, label: str, workers: int) -> float:
        """Mean score, NaN if there is none."""
        scores = self._scores.get((label, workers))
        return math.nan if scores is None else float(scores.mean(skipna=False))

    def present(self, labels: Iterable[str]) -> list[str]:
        """Those of the methods that were compared."""
        return [label for label in labels if label in self.outline.labels]

    def workers(self, *labels: str, least: int = 1) -> list[int]:
        """Numbers of workers at which all these methods ran, and not all of them diverged."""
        return [
            n
            for n in self.outline.workers
            if n >= least
            and all((label, n) in self._scores for label in labels)
            and not all(self._diverged[label, n] for label in labels)
        ]

    def margin(self, label: str, over: str, workers: int) -> Margin:
        """How much better ``label`` is than ``over``. A NaN score is worse than any other."""
        pair = pd.concat([self._scores[label, workers], self._scores[over, workers]], axis=1, join="inner")
        better = self.outline.sign * pair.to_numpy()
        ours, theirs = np.where(np.isfinite(better), better, -math.inf).T
        both_diverged = np.isneginf(ours) & np.isneginf(theirs)
        difference = np.subtract(ours, theirs, where=~both_diverged, out=np.zeros(len(ours)))
        mean = float(difference.mean())
        spread = float(pd.Series(difference).std()) if math.isfinite(mean) else 0.0
        return Margin(label, over, workers, mean, spread, len(difference))
