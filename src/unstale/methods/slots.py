"""The nine slots of a method, each a question, and the scale in which gaps are measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from unstale.methods.block import Block, Step, Writes
from unstale.methods.gate import Standing

__all__ = [
    "SLOTS",
    "Admission",
    "Correction",
    "Gate",
    "Gather",
    "Local",
    "Penalty",
    "Predict",
    "Scale",
    "StepSize",
    "Update",
]


@runtime_checkable
class Gate(Protocol):
    """May this worker start now?"""

    def open(self, standing: Standing) -> bool:
        """Whether it may."""


@runtime_checkable
class Local(Protocol):
    """What does a worker send?"""

    @property
    def steps(self) -> int:
        """Batches a worker goes through before it pushes."""


@runtime_checkable
class Admission(Protocol):
    """Is this gradient used? Is a gradient that is still being computed given up?"""

    def admit(self, delay: int) -> bool:
        """Whether a gradient that arrives with this delay is used."""

    def cancel(self, delay: int) -> bool:
        """Whether one that is still being computed is given up."""


@runtime_checkable
class Correction(Protocol):
    """What is added to the raw gradient for the drift of θ since it was sent?"""

    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        """The corrected gradient, (b,), and new state."""


@runtime_checkable
class Penalty(Protocol):
    """What divides the gradient? ``over`` says whether it takes norms, and over what."""

    @property
    def over(self) -> Literal["element", "layer", "model"]:
        """What it takes norms over."""

    def norms(self, x: Block) -> Writes:
        """Vectors whose norms `divisor` reads under the same names."""

    def divisor(self, x: Block) -> Tensor | float:
        """P: (b,), or one number for all elements."""


@runtime_checkable
class Gather(Protocol):
    """How many gradients make one update?"""

    @property
    def every_push(self) -> bool:
        """Whether each push makes an update at once."""

    def target(self, live: int) -> int:
        """Gradients that make an update while so many workers live."""

    def add(self, x: Block, g: Tensor) -> Tensor:
        """(b,) the sum so far, this gradient included."""

    def mean(self, x: Block, total: Tensor) -> Tensor:
        """(b,) the gradient of the update."""


@runtime_checkable
class StepSize(Protocol):
    """η as scheduled, or by delay? Sees numbers only."""

    def rate(self, x: Block) -> Tensor:
        """η of this update; sees numbers only."""


@runtime_checkable
class Update(Protocol):
    """How does a gradient move θ?

    It may have a ``scale``, the unit that its gaps are measured in (else `AverageStep`); and if it applies λ itself it
    says so, ``decoupled = True``: then λθ is not added to the gradient.
    """

    def step(self, x: Block, g: Tensor) -> Step:
        """The change of θ, and what statistics watch."""


@runtime_checkable
class Predict(Protocol):
    """Which point does the reply carry?"""

    def point(self, x: Block) -> Tensor:
        """(b,) where the next gradient should be taken."""


@runtime_checkable
class Scale(Protocol):
    """The average step C, in which gaps are measured."""

    def size(self, x: Block) -> Tensor:
        """(b,) C."""

    def observe(self, x: Block, step: Step) -> Writes:
        """New state after an update."""


SLOTS: Mapping[str, type] = {
    "gate": Gate,
    "local": Local,
    "admission": Admission,
    "correction": Correction,
    "penalty": Penalty,
    "gather": Gather,
    "step_size": StepSize,
    "update": Update,
    "predict": Predict,
}
