"""Delay, gap, normalised gap, penalty: what a push tells about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["VOID", "Outcome", "Receipt", "figures"]

Outcome = Literal["applied", "held", "dropped", "rejected", "late", "spent"]
VOID: tuple[Outcome, ...] = ("late", "spent")  # of pushes whose tickets did not count: nothing of them is looked at


@dataclass(frozen=True)
class Receipt:
    """What became of a push.

    outcome: applied (it made an update) · held (it waits in the gather) · dropped (not admitted) · rejected (NaN, Inf)
        · late (its ticket had expired, was cancelled or superseded) · spent (its ticket was pushed before, or is
        not this server's). Only the first two change anything.
    delay: τ, updates between its pull and this push.
    gap: ‖θ − w_i‖₂/√d. normalised_gap: mean of |θ − w_i|/C, None before the first update. penalty: mean divisor,
        1 where none was applied. All None for a push that changed nothing; the gaps also with ``measure=False``.
    lr: the scheduled η in force. progress: epochs of data accepted before this push. version: updates after it.
    extreme: elements with P > 1e6. finite: whether the gradient was.
    released: workers that waited and may pull now. cancelled: workers whose tickets this push made void.
    """

    outcome: Outcome
    worker: int
    ticket: int
    delay: int | None = None
    gap: float | None = None
    normalised_gap: float | None = None
    penalty: float | None = None
    lr: float | None = None
    progress: float = 0.0
    version: int = 0
    extreme: int = 0
    finite: bool = True
    released: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()
    reason: str = ""

    @property
    def applied(self) -> bool:
        """Whether this push made an update."""
        return self.outcome == "applied"

    @property
    def counted(self) -> bool:
        """Whether its ticket still did; if not, nobody looked at its gradient."""
        return self.outcome not in VOID


def figures(sums: Mapping[str, float], size: int, updates: int) -> dict[str, float | int | None]:
    """A receipt's figures from a program's sums over ``size`` elements, after ``updates`` updates."""
    told: dict[str, float | int | None] = {"penalty": sums["penalty"] / size, "finite": math.isfinite(sums["gradient"])}
    if "extreme" in sums and math.isfinite(sums["extreme"]):
        told["extreme"] = int(sums["extreme"])
    if "gap" in sums:
        told["gap"] = math.sqrt(sums["gap"] / size) if sums["gap"] >= 0 else math.nan
        told["normalised_gap"] = sums["normalised_gap"] / size if updates else None
    return told
