"""Adam and AdamW at the server: one pair of moments, shared by all workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unstale.errors import MethodError
from unstale.methods.block import Block, Step, vector
from unstale.methods.part import Part, number
from unstale.methods.scale import AppliedStep

__all__ = ["Adam", "AdamW", "adam_update"]


@dataclass(frozen=True)
class Adam(Part):
    """m ← β₁m + (1 − β₁)g;  s ← β₂s + (1 − β₂)g²;  θ ← θ − η·m̂/(√ŝ + ε): torch.optim.Adam, run by the server.

    m̂ = m/(1 − β₁ⁿ) and ŝ = s/(1 − β₂ⁿ), n counting this update. Weight decay comes with g. Gaps are measured in units
    of `AppliedStep`, with β₂ and ε. Source: Kingma, Ba 2015 (arXiv 1412.6980).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    state = {"m": vector(), "s": vector()}
    decoupled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        number("beta1", self.beta1, 0.0, 1.0)
        number("beta2", self.beta2, 0.0, 1.0)
        number("eps", self.eps, 1e-30)

    @property
    def scale(self) -> AppliedStep:
        """What gaps are measured in, unless the penalty says otherwise."""
        return AppliedStep(self.beta2, self.eps)

    def step(self, x: Block, g: Tensor) -> Step:
        """The velocity is m̂/(√ŝ + ε)."""
        n = x.updates + 1
        m = self.beta1 * x.m + (1 - self.beta1) * g
        s = self.beta2 * x.s + (1 - self.beta2) * g * g
        direction = m / (1 - self.beta1**n) / ((s / (1 - self.beta2**n)).sqrt() + self.eps)
        return Step(change=-x.lr * direction, velocity=direction, writes={"m": m, "s": s})


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with θ ← θ − η(m̂/(√ŝ + ε) + λθ): weight decay never enters m or s, and nothing divides it.

    Source: Loshchilov, Hutter 2019 (arXiv 1711.05101), in the form of torch.optim.AdamW.
    """

    decoupled: ClassVar[bool] = True

    def step(self, x: Block, g: Tensor) -> Step:
        """The velocity is m̂/(√ŝ + ε) + λθ."""
        adam = super().step(x, g)
        direction = adam.velocity + x.decay * x.theta
        return Step(change=-x.lr * direction, velocity=direction, writes=adam.writes)


def adam_update(beta1: float, beta2: float, eps: float, decoupled: bool) -> Adam:
    """`AdamW` if weight decay is to be ``decoupled``, else `Adam`."""
    if not isinstance(decoupled, bool):
        raise MethodError(f"decoupled must be True (AdamW) or False (Adam), got {decoupled!r}")
    return (AdamW if decoupled else Adam)(beta1, beta2, eps)
