"""What is added to a gradient for the drift of θ since its point was sent?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unstale.errors import MethodError
from unstale.methods.block import Block, Writes, per_worker
from unstale.methods.part import Part, number

__all__ = ["AdaptiveDelayCompensation", "DelayCompensation", "NoCorrection", "compensation"]


@dataclass(frozen=True)
class NoCorrection(Part):
    """g."""

    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        """The gradient as it came."""
        return g, {}


@dataclass(frozen=True)
class DelayCompensation(Part):
    """g + c·g²·(θ − w_i): a Taylor term, with g² for the diagonal of the Hessian.

    Source: Zheng et al. 2017 (arXiv 1609.08326), DC-ASGD-c.
    """

    c: float = 0.04
    needs = frozenset({"sent", "drift"})

    def __post_init__(self) -> None:
        number("c", self.c, 0.0)

    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        """(b,) corrected gradient."""
        return g + self.c * g * g * x.drift, {}


@dataclass(frozen=True)
class AdaptiveDelayCompensation(Part):
    """g + c/√(MS_i + ε)·g²·(θ − w_i), MS_i ← m·MS_i + (1 − m)·g² before use.

    Source: Zheng et al. 2017 (arXiv 1609.08326), DC-ASGD-a.
    """

    c: float = 2.0
    m: float = 0.95
    eps: float = 1e-7
    needs = frozenset({"sent", "drift"})
    state = {"MS": per_worker()}

    def __post_init__(self) -> None:
        number("c", self.c, 0.0)
        number("m", self.m, 0.0, 1.0)
        number("eps", self.eps, 0.0)

    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        """(b,) corrected gradient, and MS_i."""
        mean_square = self.m * x.MS + (1 - self.m) * g * g
        return g + self.c / (mean_square + self.eps).sqrt() * g * g * x.drift, {"MS": mean_square}


def compensation(
    variant: Literal["a", "c"], c: float | None, m: float | None
) -> DelayCompensation | AdaptiveDelayCompensation:
    """DC-ASGD's correction by the letter its paper gives it; None is that variant's published value."""
    given = {name: value for name, value in (("c", c), ("m", m)) if value is not None}
    if variant == "c" and "m" in given:
        raise MethodError(f"m belongs to variant 'a', which keeps mean squares; got m={m} with variant 'c'")
    if variant == "c":
        return DelayCompensation(**given)
    if variant == "a":
        return AdaptiveDelayCompensation(**given)
    raise MethodError(f"variant must be 'a' (adaptive) or 'c' (constant), got {variant!r}")
