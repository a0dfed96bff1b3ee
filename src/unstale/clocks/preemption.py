"""Workers that are taken away now and then, and come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from unstale.checks import set_number
from unstale.clocks.base import RandomClock
from unstale.clocks.schedule import FloatArray

__all__ = ["Preemption"]


@dataclass(frozen=True)
class Preemption(RandomClock):
    """A job needs ``mean`` of running time, and waits out the outages that hit it.

    Outages come after exponential on-periods of mean ``uptime`` and last Exp(``downtime``). So K ~ Poisson(mean/uptime)
    of them hit a job, and T = mean + Gamma(K)·downtime: exact, as exponential periods have no memory from job to job.

    Mean: mean·(1 + downtime/uptime), more than ``mean``, which is the running time.
    Spread: standard deviation downtime·sqrt(2·mean/uptime). Unit: that of ``mean``, for all three.
    Raises: ArgumentError unless mean and uptime are positive, downtime is at least 0, and mean/uptime at most 1e6.
    """

    name: ClassVar[str] = "preemption"
    summary: ClassVar[str] = "workers are taken away now and then, and come back"
    source: ClassVar[str] = "an alternating renewal process with exponential periods; the defaults are ours"

    uptime: float = 100.0
    downtime: float = 10.0
    mean: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        set_number(self, "mean", lambda x: x > 0, "be positive", "1 is the usual unit of time")
        rule = "be positive, and at least a millionth of mean"
        set_number(
            self, "uptime", lambda x: x > 0 and x >= 1e-6 * self.mean, rule, "it is the mean time between outages"
        )
        set_number(self, "downtime", lambda x: x >= 0, "be at least 0", "it is the mean length of an outage")

    def _sample(self, rng: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        outages = rng.poisson(self.mean / self.uptime, shape)
        return self.mean + self.downtime * rng.standard_gamma(outages)
