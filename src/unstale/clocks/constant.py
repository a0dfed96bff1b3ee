"""Workers that always take the same time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from unstale.checks import number, set_number
from unstale.clocks.base import Clock
from unstale.clocks.schedule import TILE, FloatArray, Tiles
from unstale.errors import ArgumentError

__all__ = ["Constant"]


@dataclass(frozen=True)
class Constant(Clock):
    """Every job of worker i takes mean / speeds[i mod len(speeds)]; without speeds, all workers are equal: round-robin.

    Mean: ``mean`` for a worker of speed 1. Spread: none. Unit: that of ``mean``. The seed changes nothing.
    Raises: ArgumentError unless mean and all speeds are positive.
    """

    name: ClassVar[str] = "constant"
    summary: ClassVar[str] = "every job takes the same time; workers may differ in speed"
    source: ClassVar[str] = "none needed: a deterministic model"

    mean: float = 1.0
    speeds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        set_number(self, "mean", lambda x: x > 0, "be positive", "1 is the usual unit of time")
        object.__setattr__(self, "speeds", _speeds(self.speeds))

    def _tiles(self, seed: int) -> Tiles:
        durations = self.mean / np.array(self.speeds or (1.0,))

        def tile(worker_tile: int, job_tile: int) -> FloatArray:
            worker = np.arange(worker_tile * TILE, (worker_tile + 1) * TILE)
            return np.repeat(durations[worker % len(durations)][:, None], TILE, axis=1)

        return tile


def _speeds(speeds: object) -> tuple[float, ...]:
    """Plain positive floats.

    Raises: ArgumentError for anything else.
    """
    if not isinstance(speeds, tuple | list):
        raise ArgumentError(
            f"speeds must be a tuple of positive numbers, got {speeds!r}; for two workers pass (1.0, 2.0)"
        )
    remedy = "each of speeds is relative to 1, the speed of a worker that takes mean"
    return tuple(
        number(f"speeds[{i}]", speed, lambda x: x > 0, "be positive", remedy) for i, speed in enumerate(speeds)
    )
