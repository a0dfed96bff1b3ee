"""How much better one method is than another, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

__all__ = ["CONFIDENCE", "ENOUGH", "Effect", "Sample", "mean_of", "shown"]

ENOUGH = 3
"""Fewer seeds than this confirm nothing."""
CONFIDENCE = 0.95
_RESAMPLES = 5000


@dataclass(frozen=True)
class Effect:
    """A mean difference; above 0 is better.

    low, high: its 95% interval, by the bootstrap over ``n`` seeds where there are seeds, else by the test.
    error, degrees: its standard error and degrees of freedom. test: which t test that is. NaN with a single seed.
    note: what a reader should know of it.
    """

    mean: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    degrees: float = math.nan
    n: float = 1
    test: str = ""
    note: str = ""

    def p(self, bound: float = 0.0) -> float:
        """Two-sided p value of the difference being ``bound``; NaN with a single seed."""
        if self.error == 0:
            return float(self.mean == bound)
        from scipy.stats import t

        return float(2 * t.sf(abs(self.mean - bound) / self.error, self.degrees))

    def above(self, bound: float, level: float = 1 - CONFIDENCE) -> bool:
        """Whether interval and test agree that it is above, on seeds enough."""
        return self.n >= ENOUGH and self.low >= bound and self.mean > bound and self.p(bound) < level

    def below(self, bound: float, level: float = 1 - CONFIDENCE) -> bool:
        """Whether interval and test agree that it is below, on seeds enough."""
        return self.n >= ENOUGH and self.high <= bound and self.mean < bound and self.p(bound) < level

    @property
    def difference(self) -> str:
        """ "+0.2"."""
        return shown(self.mean)

    @property
    def interval(self) -> str:
        """ "[0.1, 0.3]", or nothing with a single seed."""
        return "" if math.isnan(self.low) else f"[{shown(self.low)}, {shown(self.high)}]".replace("+", "")

    def __str__(self) -> str:
        return " ".join(filter(None, [self.difference, self.interval, self.note]))


@dataclass(frozen=True)
class Sample:
    """Scores of one method at one number of workers: seed by seed, or no more than a table's mean, std and n.

    n is infinite for a constant. diverged: how many of the runs.
    """

    mean: float
    std: float
    n: float
    seeds: pd.Series[float] | None = field(default=None, compare=False)
    diverged: int = 0

    @classmethod
    def of(cls, seeds: pd.Series[float], diverged: int = 0) -> Sample:
        """From finite scores by seed."""
        return cls(float(seeds.mean()), float(seeds.std()), len(seeds), seeds, diverged)

    @classmethod
    def constant(cls, value: float) -> Sample:
        """What has no spread."""
        return cls(value, 0.0, math.inf)

    def times(self, factor: float) -> Sample:
        """Every score times a factor of at least 0."""
        seeds = None if self.seeds is None else self.seeds * factor
        return replace(self, mean=self.mean * factor, std=self.std * factor, seeds=seeds)

    def minus(self, other: Sample) -> Effect:
        """The mean difference: over the seeds that both have, where there are seeds (a paired t test), else Welch's."""
        return self._paired(other) if self.seeds is not None else _welch(self, other)

    def _paired(self, other: Sample) -> Effect:
        assert self.seeds is not None
        if other.seeds is None:
            return mean_of(self.seeds.to_numpy() - other.mean, "t")
        pair = pd.concat([self.seeds, other.seeds], axis=1, join="inner").to_numpy()
        return mean_of(pair[:, 0] - pair[:, 1], "paired t")


def mean_of(given: ArrayLike, test: str = "t") -> Effect:
    """The mean of one number a seed. The bootstrap is seeded: the same values give the same interval."""
    values = np.asarray(given, np.float64)
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    if n < 2 or not math.isfinite(mean):
        return Effect(mean, n=n, test=test)
    if np.ptp(values) <= 1e-9 * max(1.0, abs(mean)):
        return Effect(mean, mean, mean, 0.0, n - 1, n, test)
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, confidence_level=CONFIDENCE, method="percentile", rng=0
    )
    low, high = (float(bound) for bound in found.confidence_interval)
    return Effect(mean, low, high, float(values.std(ddof=1)) / math.sqrt(n), n - 1, n, test)


def _welch(ours: Sample, theirs: Sample) -> Effect:
    """Satterthwaite's degrees of freedom."""
    mean, n = ours.mean - theirs.mean, min(ours.n, theirs.n)
    parts = [(sample.std**2 / sample.n, sample.n - 1) for sample in (ours, theirs)]
    if n < 2 or any(math.isnan(variance) for variance, _ in parts):
        return Effect(mean, n=n, test="Welch's t")
    error = math.sqrt(sum(variance for variance, _ in parts))
    if not error:
        return Effect(mean, mean, mean, 0.0, n - 1, n, "Welch's t")
    from scipy.stats import t

    degrees = error**4 / sum(variance**2 / rest for variance, rest in parts)
    half = float(t.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    return Effect(mean, mean - half, mean + half, error, degrees, n, "Welch's t")


def shown(value: float) -> str:
    """A difference with its sign: one decimal, or two significant digits where that is less than one."""
    text = f"{value:+.1f}" if abs(value) >= 0.95 or value == 0 else f"{value:+.2g}"
    return text.replace("-", "−")
