"""A method's step in one pass over memory."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from unstale.kernels.blocks import Blocks
from unstale.kernels.inductor import InductorStep
from unstale.kernels.native import NativeStep, fits
from unstale.kernels.operands import Numbers, Operands
from unstale.kernels.trace import UnsupportedError
from unstale.methods.steps import Program

__all__ = ["Auto", "Compiled"]


class _Step(Protocol):
    def run(self, operands: Operands) -> dict[str, float]: ...


Maker = Callable[[Program, Operands, Numbers], _Step]


@dataclass
class Compiled:
    """Each program as one loop: in C on the CPU, by ``torch.compile`` elsewhere or where C does not reach.

    Where nothing compiles (no compiler on the machine, say) it says so once and goes on in blocks: slower, same
    results.
    """

    fallback: Blocks = field(default_factory=Blocks)
    _steps: dict[object, _Step] = field(default_factory=dict, repr=False)
    _broken: bool = field(default=False, repr=False)

    def run(self, program: Program, operands: Operands) -> dict[str, float]:
        """See `Executor`."""
        if self._broken:
            return self.fallback.run(program, operands)
        key = _key(program, operands)
        try:
            step = self._steps.get(key)
            if step is None:
                step = self._steps[key] = _made(program, operands)
            return step.run(operands)
        except Exception as error:  # whatever a compiler may raise; equations cannot fail, and nothing is written yet
            self._broken = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(
                f"cannot compile the server's step ({reason}); going on in blocks", RuntimeWarning, stacklevel=2
            )
            return self.fallback.run(program, operands)


def _made(program: Program, operands: Operands) -> _Step:
    numbers = operands.spans[0][1]
    if fits(operands):
        try:
            return NativeStep(program, operands, numbers)
        except UnsupportedError:
            pass
    return InductorStep(program, operands, numbers)


def _key(program: Program, operands: Operands) -> object:
    """What a step was made for: the program, and the dtypes and places of what it works on."""
    # Bound methods are made anew at each access; what they are bound to is not.
    who = (program.__func__, program.__self__) if isinstance(program, types.MethodType) else program
    return (who, *((name, a.dtype, a.device, a.ndim) for name, a in operands.arrays.items()))


@dataclass
class Auto:
    """In blocks while there is little to do; compiled once that will pay for itself.

    That is after so many ``elements``; what a push costs besides counts as ``push`` elements. Where it is known how
    many ``pushes`` there will be, these decide, and it stays: a replay may ask for points in another way. A count, not
    a time, so that a run repeats.
    """

    elements: int = 2**25
    pushes: int = 0
    push: int = 2**16
    _seen: int = field(default=0, repr=False)
    _blocks: Blocks = field(default_factory=Blocks, repr=False)
    _compiled: Compiled = field(default_factory=Compiled, repr=False)

    def state_dict(self) -> dict[str, int]:
        """What decides from which push on it compiles: that must not change where a run is taken up again."""
        return {"seen": self._seen}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from there."""
        self._seen = state.get("seen", 0)

    def run(self, program: Program, operands: Operands) -> dict[str, float]:
        """See `Executor`."""
        size = operands.arrays["theta"].numel() + self.push
        self._seen += size
        work = self.pushes * size or self._seen
        chosen = self._blocks if work <= self.elements else self._compiled
        return chosen.run(program, operands)
