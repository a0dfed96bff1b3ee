"""How many gradients make one update?"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unstale.errors import MethodError
from unstale.methods.block import Block, vector
from unstale.methods.part import Part, whole

__all__ = ["Each", "Mean"]


@dataclass(frozen=True)
class Each(Part):
    """One."""

    @property
    def every_push(self) -> bool:
        """True: nothing is ever held."""
        return True

    def target(self, live: int) -> int:
        """1."""
        return 1

    def add(self, x: Block, g: Tensor) -> Tensor:
        """The gradient itself."""
        return g

    def mean(self, x: Block, total: Tensor) -> Tensor:
        """The gradient itself."""
        return total


@dataclass(frozen=True)
class Mean(Part):
    """The mean of ``count`` gradients, or of one from each living worker but ``spare``."""

    count: int | str = "workers"
    spare: int = 0
    state = {"gathered": vector()}

    def __post_init__(self) -> None:
        if self.count != "workers":
            if not isinstance(self.count, int):
                raise MethodError(f"count must be 'workers' or a whole number of at least 1, got {self.count!r}")
            whole("count", self.count, 1)
        whole("spare", self.spare, 0)

    @property
    def every_push(self) -> bool:
        """False: gradients are held until they are enough."""
        return False

    def target(self, live: int) -> int:
        """Gradients that make an update while ``live`` workers live."""
        return max(1, (self.count if isinstance(self.count, int) else live) - self.spare)

    def add(self, x: Block, g: Tensor) -> Tensor:
        """(b,) the sum so far."""
        return x.gathered + g

    def mean(self, x: Block, total: Tensor) -> Tensor:
        """(b,) the gradient of the update; ``x.count`` were added."""
        return total / x.count
