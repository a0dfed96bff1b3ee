"""What a program works on, and who runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from unstale.flat import Span
from unstale.methods.block import Block
from unstale.methods.steps import Program

__all__ = ["Executor", "Numbers", "Operands"]

Numbers = Mapping[str, Tensor | float]


@dataclass
class Operands:
    """Vectors (d,) and numbers () by name, and each span with its own numbers.

    ``into`` names other vectors to write to: a worker's next point goes beside its last one where others share that.
    """

    arrays: dict[str, Tensor]
    spans: Sequence[tuple[Span, Numbers]]
    into: Mapping[str, Tensor] = field(default_factory=dict)

    def block(self, part: slice, numbers: Numbers) -> Block:
        """What a program sees of the elements in ``part``."""
        return Block({**numbers, **{name: a[part] if a.ndim else a for name, a in self.arrays.items()}})

    def target(self, name: str) -> Tensor:
        """Where a program's result of that name goes."""
        return self.into[name] if name in self.into else self.arrays[name]


class Executor(Protocol):
    """Runs a program over all elements, writes its results in place, and answers its sums over all elements."""

    def run(self, program: Program, operands: Operands) -> dict[str, float]:
        """The sums by name."""
