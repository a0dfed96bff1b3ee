"""The average step C: the unit in which gaps are measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unstale.methods.block import Block, Step, Writes, vector
from unstale.methods.part import Part, number

__all__ = ["AppliedStep", "AverageStep"]

# C is 0 where η_max is; this keeps 0/0 out of the gap (0 there) and is far below any real learning rate.
LEAST_RATE = 1e-25


@dataclass(frozen=True)
class AverageStep(Part):
    """C = η_max·(√(R/(1 − ρⁿ)) + ε);  after each update R ← ρR + (1 − ρ)v², with the v just applied.

    η_max, not η: after a decay of the learning rate the gap shrinks and C does not. Source: Barkai et al.
    2020 (arXiv 1909.10802); that it is the maximum, ρ and ε as read in third-party code; 1 − ρⁿ and the order are ours.
    """

    rho: float = 0.999
    eps: float = 1e-8
    state = {"R": vector()}

    def __post_init__(self) -> None:
        number("rho", self.rho, 0.0, 1.0)
        number("eps", self.eps, 1e-30)

    def size(self, x: Block) -> Tensor:
        """C, (b,); NaN while there was no update (n = 0)."""
        return x.lr_max.clamp_min(LEAST_RATE) * ((x.R / (1 - self.rho**x.updates)).sqrt() + self.eps)

    def observe(self, x: Block, step: Step) -> Writes:
        """R after the update."""
        return {"R": self.rho * x.R + (1 - self.rho) * step.velocity * step.velocity}


@dataclass(frozen=True)
class AppliedStep(Part):
    """C = √(Q/(1 − βⁿ)) + ε;  after each update Q ← βQ + (1 − β)a², with a the change of θ just applied.

    a contains the η in force, so C follows η down: after a decay P dips, and returns. For Adam, as read in third-party
    code; 1 − βⁿ is ours. Whether Barkai et al. 2020 (arXiv 1909.10802) did exactly this is unknown.
    """

    beta: float = 0.999
    eps: float = 1e-8
    state = {"Q": vector()}

    def __post_init__(self) -> None:
        number("beta", self.beta, 0.0, 1.0)
        number("eps", self.eps, 1e-30)

    def size(self, x: Block) -> Tensor:
        """C, (b,); NaN while there was no update (n = 0)."""
        return (x.Q / (1 - self.beta**x.updates)).sqrt() + self.eps

    def observe(self, x: Block, step: Step) -> Writes:
        """Q after the update."""
        return {"Q": self.beta * x.Q + (1 - self.beta) * step.change * step.change}
