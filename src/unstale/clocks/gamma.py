"""The paper's clock: gamma-distributed times, of equal or unequal machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from unstale.checks import set_number
from unstale.clocks.base import RandomClock
from unstale.clocks.schedule import FloatArray

__all__ = ["Gamma"]

_LEAST, _MOST = 1e-6, 3.0  # outside, 1/V² or the smallest draws leave the useful range of a float


@dataclass(frozen=True)
class Gamma(RandomClock):
    """T ~ Gamma(shape 1/V², scale p·V²), with p = mean or, once per worker, p ~ Gamma(1/V_mach², mean·V_mach²).

    V is ``cv``, V_mach is ``heterogeneity``: 0 makes all machines equal; with the usual 0.6, the fastest and slowest of
    32 workers differ about 15-fold. Such a cluster has 1/(1 − V_mach²) = 1.56 times the throughput of an equal one of
    the same mean time (for V_mach < 1): never compare times across the two.

    Mean: ``mean``, over workers too. Spread: standard deviation cv·p for a worker's jobs, heterogeneity·mean for the
    workers' means. Unit: that of ``mean``.
    Source: Ali et al. 2000 (for unequal machines their CVB method).
    Raises: ArgumentError unless cv is in [1e-6, 3] and heterogeneity 0 or in [1e-6, 3].
    """

    name: ClassVar[str] = "gamma"
    summary: ClassVar[str] = "the paper's: gamma-distributed times, machines equal or not"
    source: ClassVar[str] = (
        "Ali et al. 2000. cv = 0.1 as in the authors' public code; "
        "the formulas for unequal machines (CVB) as in third-party code; heterogeneity = 0.6 is unverified"
    )

    cv: float = 0.1
    heterogeneity: float = 0.0
    mean: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        set_number(self, "cv", _spread, "be positive, from 1e-6 to 3", "0.1 is usual; for no spread take Constant")
        rule = "be 0 or from 1e-6 to 3"
        set_number(self, "heterogeneity", lambda x: x == 0 or _spread(x), rule, "0 makes machines equal, 0.6 unequal")
        set_number(self, "mean", lambda x: x > 0, "be positive", "1 is the usual unit of time")

    def _sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        return self.mean * _unit_gamma(rng, self.cv, shape)

    def _factors(self, rng: np.random.Generator, workers: int) -> FloatArray:
        return _unit_gamma(rng, self.heterogeneity, (workers,)) if self.heterogeneity else np.ones(workers)


def _spread(value: float) -> bool:
    return _LEAST <= value <= _MOST


def _unit_gamma(rng: np.random.Generator, cv: float, shape: tuple[int, ...]) -> FloatArray:
    """Gamma of mean 1 and standard deviation ``cv``."""
    return rng.standard_gamma(1 / cv**2, shape) * cv**2
