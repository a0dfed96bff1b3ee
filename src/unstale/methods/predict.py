"""Which point does the reply carry? ``x.lr`` is the η of the latest push, and θ is as that push left it.

A part whose point does not depend on the worker says so, ``same_for_all``: then one snapshot does for all who pull at
the same version.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unstale.methods.block import Block, vector
from unstale.methods.part import Part

__all__ = ["AlongAllMomenta", "AlongOwnMomentum", "Here"]


@dataclass(frozen=True)
class Here(Part):
    """θ."""

    same_for_all = True

    def point(self, x: Block) -> Tensor:
        """(b,) the parameters as they are."""
        return x.theta


@dataclass(frozen=True)
class AlongAllMomenta(Part):
    """θ − ηγS with S = Σ v_j: where θ will be when every worker's momentum has been applied once more.

    Source: Hakimi et al. 2019 (arXiv 1907.11612), DANA-Zero.
    """

    same_for_all = True
    state = {"S": vector(sum_of="v")}
    needs = frozenset({"v", "momentum"})
    remedy = "use update=MomentumPerWorker(momentum)"

    def point(self, x: Block) -> Tensor:
        """(b,) the predicted point."""
        return x.theta - x.lr * x.momentum * x.S


@dataclass(frozen=True)
class AlongOwnMomentum(Part):
    """θ − ηγv_i. Source: Hakimi et al. 2019 (arXiv 1907.11612), Multi-ASGD."""

    needs = frozenset({"v", "momentum"})
    remedy = "use update=MomentumPerWorker(momentum)"

    def point(self, x: Block) -> Tensor:
        """(b,) the predicted point."""
        return x.theta - x.lr * x.momentum * x.v
