"""Clocks with stragglers: an exponential tail, and a heavy one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from unstale.checks import set_number
from unstale.clocks.base import RandomClock
from unstale.clocks.schedule import FloatArray

__all__ = ["Pareto", "ShiftedExponential"]


@dataclass(frozen=True)
class ShiftedExponential(RandomClock):
    """T = mean·(1 − f) + Exp(f·mean), f = ``fraction``: a fixed part that every job needs, and a random part.

    Mean: ``mean``. Spread: standard deviation f·mean. Unit: that of ``mean``.
    Raises: ArgumentError unless fraction is in [0, 1] and mean positive.
    """

    name: ClassVar[str] = "shifted_exponential"
    summary: ClassVar[str] = "a fixed part and an exponential part"
    source: ClassVar[str] = "a standard law for stragglers; the default fraction is ours"

    fraction: float = 0.5
    mean: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        set_number(self, "fraction", lambda x: 0 <= x <= 1, "be from 0 to 1", "it is the random share of the mean time")
        set_number(self, "mean", lambda x: x > 0, "be positive", "1 is the usual unit of time")

    def _sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        return self.mean * ((1 - self.fraction) + self.fraction * rng.standard_exponential(shape))


@dataclass(frozen=True)
class Pareto(RandomClock):
    """T = mean·(a − 1)/a·U^(−1/a), U uniform in (0, 1], a = ``shape``: rare jobs take very long.

    Mean: ``mean``. Spread: standard deviation mean/sqrt(a(a − 2)) for a > 2, else infinite. Unit: that of ``mean``.
    No job is shorter than mean·(a − 1)/a. Near a = 1 the mean is made by very rare jobs, and short runs look faster.
    Raises: ArgumentError unless shape is above 1 and mean positive.
    """

    name: ClassVar[str] = "pareto"
    summary: ClassVar[str] = "heavy-tailed: rare jobs take very long"
    source: ClassVar[str] = "a standard law for heavy tails; the default shape is ours"

    shape: float = 3.0
    mean: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        set_number(
            self, "shape", lambda x: x > 1, "be above 1", "at 1 or below the mean is infinite; 3 is a moderate tail"
        )
        set_number(self, "mean", lambda x: x > 0, "be positive", "1 is the usual unit of time")

    def _sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        uniform = 1.0 - rng.random(shape)  # random() is in [0, 1)
        least = self.mean * ((self.shape - 1) / self.shape)
        return least * uniform ** (-1 / self.shape)
