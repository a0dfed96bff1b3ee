"""How does a gradient move θ? Momentum is in PyTorch's form: v ← γv + g, and η outside of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unstale.methods.block import Block, Step, per_worker, vector
from unstale.methods.part import Part, number

__all__ = ["HeavyBall", "MomentumPerWorker", "Nesterov", "NesterovPerWorker", "Sgd"]


@dataclass(frozen=True)
class Sgd(Part):
    """θ ← θ − ηg."""

    def step(self, x: Block, g: Tensor) -> Step:
        """The velocity is the penalised gradient itself."""
        return Step(change=-x.lr * g, velocity=g)


@dataclass(frozen=True)
class _Momentum(Part):
    momentum: float = 0.9
    gives = ("momentum",)

    def __post_init__(self) -> None:
        number("momentum", self.momentum, 0.0, 1.0)


@dataclass(frozen=True)
class HeavyBall(_Momentum):
    """v ← γv + g;  θ ← θ − ηv. Source: Polyak 1964."""

    state = {"v": vector()}

    def step(self, x: Block, g: Tensor) -> Step:
        """One momentum shared by all workers."""
        v = self.momentum * x.v + g
        return Step(change=-x.lr * v, velocity=v, writes={"v": v})


@dataclass(frozen=True)
class Nesterov(_Momentum):
    """v ← γv + g;  θ ← θ − η(g + γv): torch.optim.SGD(nesterov=True), run by the server."""

    state = {"v": vector()}

    def step(self, x: Block, g: Tensor) -> Step:
        """One momentum shared by all workers."""
        v = self.momentum * x.v + g
        return Step(change=-x.lr * (g + self.momentum * v), velocity=v, writes={"v": v})


@dataclass(frozen=True)
class MomentumPerWorker(_Momentum):
    """v_i ← γv_i + g;  θ ← θ − ηv_i. Source: Hakimi et al. 2019 (arXiv 1907.11612)."""

    state = {"v": per_worker()}

    def step(self, x: Block, g: Tensor) -> Step:
        """One momentum per worker."""
        v = self.momentum * x.v + g
        return Step(change=-x.lr * v, velocity=v, writes={"v": v})


@dataclass(frozen=True)
class NesterovPerWorker(_Momentum):
    """v_i ← γv_i + g;  θ ← θ − η(γv_i + g). Source: Hakimi et al. 2019 (arXiv 1907.11612), DANA-Slim."""

    state = {"v": per_worker()}

    def step(self, x: Block, g: Tensor) -> Step:
        """One momentum per worker."""
        v = self.momentum * x.v + g
        return Step(change=-x.lr * (self.momentum * v + g), velocity=v, writes={"v": v})
