"""What there is to judge claims by: scores of methods at numbers of workers, and delays and gaps through training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from unstale.experiments.effects import Effect, Sample, mean_of
from unstale.experiments.outline import Outline
from unstale.experiments.results import baseline_scores

__all__ = ["NO_EPOCHS", "Evidence", "finite"]

WITH_ADAM = {"adam": "asgd", "sa_adam": "sa", "ga_adam": "ga"}
"""In a comparison of methods with Adam (table 2), whose part each of them plays."""
NO_EPOCHS = pd.DataFrame({name: [] for name in ("method", "workers", "seed", "epoch", "delay", "normalised_gap")})


@dataclass(frozen=True)
class Evidence:
    """One workload's numbers, here or in a paper.

    samples: by (label, workers); higher is better in all of them. baseline: one worker's.
    halves: whether half of a score means something, as of an accuracy.
    epochs: method, workers, seed, epoch, delay, normalised_gap.
    half_lost_at: the number of workers at which a baseline's method is said to have collapsed.
    runs: what is counted, for readers.
    """

    samples: Mapping[tuple[str, int], Sample]
    baseline: Sample | None
    halves: bool = True
    epochs: pd.DataFrame = field(default_factory=NO_EPOCHS.copy)
    half_lost_at: int | None = None
    runs: str = "seed"

    @classmethod
    def of(
        cls, outline: Outline, results: pd.DataFrame, epochs: pd.DataFrame, half_lost_at: int | None = None
    ) -> Evidence:
        """From a comparison's results. A run without a finite score counts as at chance, or as the worst there is."""
        sign, known = outline.sign, outline.task.get("chance")
        table = results.assign(score=finite(sign * results["score"], None if known is None else sign * float(known)))
        pairs = [(label, n) for label in outline.labels for n in outline.workers]
        cells = {pair: table[(table["method"] == pair[0]) & (table["workers"] == pair[1])] for pair in pairs}
        parts = {label: WITH_ADAM.get(label, label) for label in outline.labels}
        if len(set(parts.values())) < len(parts):
            parts = {}  # Adam beside SGD: each stands for itself
        samples = {
            (parts.get(pair[0], pair[0]), pair[1]): Sample.of(
                rows.set_index("seed")["score"], int(rows["diverged"].sum())
            )
            for pair, rows in cells.items()
            if len(rows)
        }
        epochs = epochs.assign(method=epochs["method"].map(lambda label: parts.get(label, label)))
        scores = baseline_scores(outline, table)
        baseline = Sample.of(scores) if len(scores) else None
        halves = outline.higher_is_better and baseline is not None and baseline.mean > 0
        return cls(samples, baseline, halves, epochs, half_lost_at)

    @property
    def tolerance(self) -> float:
        """What "at least as good" overlooks: half a percent of the baseline's score."""
        return 0.0 if self.baseline is None or math.isnan(self.baseline.mean) else 0.005 * abs(self.baseline.mean)

    def present(self, labels: Iterable[str]) -> list[str]:
        """Those of the methods that there are scores of."""
        return [label for label in labels if any(label == have for have, _ in self.samples)]

    def workers(self, *labels: str, least: int = 1) -> list[int]:
        """Numbers of workers at which there are scores of all these methods, and not all runs of all diverged."""
        return [
            n
            for n in sorted({n for _, n in self.samples})
            if n >= least
            and all((label, n) in self.samples for label in labels)
            and not all(self.samples[label, n].diverged >= self.samples[label, n].n for label in labels)
        ]

    def margin(self, label: str, over: str, workers: int) -> Effect:
        """How much better ``label`` is than ``over``; the note says which of them diverged."""
        pair = {name: self.samples[name, workers] for name in (label, over)}
        lost = [f"{name}: {s.diverged:g} of {s.n:g} diverged" for name, s in pair.items() if s.diverged]
        return replace(pair[label].minus(pair[over]), note=f"({', '.join(lost)})" if lost else "")

    def below_half(self, label: str, workers: int) -> Effect:
        """By how much it is below half of the baseline's score."""
        assert self.baseline is not None
        return self.baseline.times(0.5).minus(self.samples[label, workers])

    def above_half(self, label: str, workers: int) -> Effect:
        """By how much it is above half of the baseline's score."""
        assert self.baseline is not None
        return self.samples[label, workers].minus(self.baseline.times(0.5))

    def share_below_delay(self, label: str, workers: int) -> Effect:
        """Percent of the epochs in which the mean normalised gap is below the mean delay, over 50."""
        rows = self.epochs[(self.epochs["method"] == label) & (self.epochs["workers"] == workers)]
        rows = rows[np.isfinite(rows["normalised_gap"])]  # a diverged run has none any more
        below = rows["normalised_gap"] < rows["delay"]
        return mean_of(100.0 * below.groupby(rows["seed"]).mean() - 50.0)


def finite(scores: pd.Series[float], chance: float | None) -> pd.Series[float]:
    """NaN and infinities become chance, or where none is known the worst finite score; higher is better."""
    good = np.isfinite(scores)
    floor = chance if chance is not None else scores[good].min() if good.any() else math.nan
    return scores.where(good, floor)
