"""What divides a stale gradient? The server sets P = 1 where τ = 0, whatever a part answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from unstale.errors import MethodError
from unstale.methods.block import Block, Writes
from unstale.methods.part import Part, number
from unstale.methods.slots import Scale

__all__ = ["Delay", "Gap", "NoPenalty", "NormGap", "RootDelay", "gap"]


class _Elementwise(Part):
    """A divisor that needs no norms."""

    @property
    def over(self) -> Literal["element", "layer", "model"]:
        """What norms are taken over."""
        return "element"

    def norms(self, x: Block) -> Writes:
        """Nothing."""
        return {}


@dataclass(frozen=True)
class NoPenalty(_Elementwise):
    """P = 1."""

    def divisor(self, x: Block) -> Tensor | float:
        """1."""
        return 1.0


@dataclass(frozen=True)
class Delay(_Elementwise):
    """P = max(1, τ), or τ + 1 with ``plus_one``. Source: Zhang et al. 2015 (arXiv 1511.05950)."""

    plus_one: bool = False

    def divisor(self, x: Block) -> Tensor:
        """() number."""
        return x.delay + 1 if self.plus_one else x.delay.clamp_min(1)


@dataclass(frozen=True)
class RootDelay(_Elementwise):
    """P = (1 + τ)^power. Source: Nguyen et al. 2022, FedBuff (arXiv 2106.06639)."""

    power: float = 0.5

    def __post_init__(self) -> None:
        number("power", self.power, 0.0)

    def divisor(self, x: Block) -> Tensor:
        """() number."""
        return (1 + x.delay) ** self.power


@dataclass(frozen=True)
class Gap(_Elementwise):
    """P = 1 + |θ − w_i|/C, per element; ``reference="prediction"`` measures from the point that would be sent now.

    ``scale`` is how C is formed; None leaves it to the update: `AverageStep`, or `AppliedStep` for Adam.
    Source: Barkai et al. 2020 (arXiv 1909.10802).
    """

    reference: Literal["server", "prediction"] = "server"
    scale: Scale | None = None

    def __post_init__(self) -> None:
        if self.reference not in ("server", "prediction"):
            raise MethodError(f"reference must be 'server' or 'prediction', got {self.reference!r}")
        _check_scale(self.scale)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The sent point, the average step, and the reference that the gap is measured from."""
        return frozenset({"sent", "average_step", "drift" if self.reference == "server" else "prediction"})

    def divisor(self, x: Block) -> Tensor:
        """(b,) P."""
        gap = x.drift if self.reference == "server" else x.prediction - x.sent
        return 1 + gap.abs() / x.average_step


@dataclass(frozen=True)
class NormGap(Part):
    """P = 1 + ‖θ − w_i‖₂/‖C‖₂ over each layer, or over the whole model; ``scale`` as in `Gap`. Ours in form."""

    per: Literal["layer", "model"] = "layer"
    scale: Scale | None = None
    needs = frozenset({"sent", "drift", "average_step"})

    def __post_init__(self) -> None:
        if self.per not in ("layer", "model"):
            raise MethodError(f"per must be 'layer' or 'model' (or 'element' in ga), got {self.per!r}")
        _check_scale(self.scale)

    @property
    def over(self) -> Literal["element", "layer", "model"]:
        """What norms are taken over."""
        return self.per

    def norms(self, x: Block) -> Writes:
        """What `divisor` reads as the norm, over the layer or model, of each of these."""
        return {"drift_norm": x.drift, "step_norm": x.average_step}

    def divisor(self, x: Block) -> Tensor:
        """(b,) P, the same within a layer."""
        return 1 + x.drift_norm / x.step_norm


def gap(per: Literal["element", "layer", "model"] = "element") -> Gap | NormGap:
    """The gap penalty of each element, of each layer, or of the whole model."""
    if per == "element":
        return Gap()
    return NormGap(per)


def _check_scale(scale: object) -> None:
    if scale is not None and (isinstance(scale, type) or not isinstance(scale, Scale)):
        raise MethodError(f"scale must be a part with observe and size, such as AverageStep(), or None, got {scale!r}")
