"""η as scheduled, or by delay?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unstale.methods.block import Block
from unstale.methods.part import Part

__all__ = ["DelayAdaptive", "Scheduled"]


@dataclass(frozen=True)
class Scheduled(Part):
    """η."""

    def rate(self, x: Block) -> Tensor:
        """() the scheduled η."""
        return x.lr


@dataclass(frozen=True)
class DelayAdaptive(Part):
    """η·min(1, N/τ); η at τ = 0. It acts only where τ > N.

    Source: Koloskova et al. 2022; Mishchenko et al. 2022.
    """

    def rate(self, x: Block) -> Tensor:
        """() η of this update."""
        return x.lr * torch.clamp(x.workers / x.delay.clamp_min(1), max=1)
