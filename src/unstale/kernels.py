"""How a method's equations run: in cache-sized blocks, or compiled into one pass. Both give the same result."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from unstale.errors import ArgumentError
from unstale.flat import Layer, Span
from unstale.methods.block import Block
from unstale.methods.steps import Outcome, Program

__all__ = ["Blocks", "Compiled", "Executor", "Operands", "executor", "norms"]

# Sums are taken over stretches of this many elements first, so they do not depend on the size of the blocks.
STRETCH = 1024


@dataclass
class Operands:
    """What a program works on: vectors (d,) and numbers () by name, and each span with its own numbers."""

    arrays: dict[str, Tensor]
    spans: Sequence[tuple[Span, Mapping[str, Tensor | float]]]

    def block(self, part: slice, numbers: Mapping[str, Tensor | float]) -> Block:
        """What a program sees of the elements in ``part``."""
        return Block({**numbers, **{name: a[part] if a.ndim else a for name, a in self.arrays.items()}})


class Executor(Protocol):
    """Runs a program over all elements, writes its results in place, and answers its sums over all elements."""

    def run(self, program: Program, operands: Operands) -> dict[str, float]:
        """The sums by name."""


@dataclass(frozen=True)
class Blocks:
    """Block by block, so that what one equation writes the next still finds in the cache. ``size`` in elements."""

    size: int = 65_536

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < STRETCH or self.size % STRETCH:
            raise ArgumentError(f"size must be a multiple of {STRETCH} elements, got {self.size!r}")

    @torch.no_grad()
    def run(self, program: Program, operands: Operands) -> dict[str, float]:
        """See `Executor`."""
        numbers: dict[str, Tensor] = {}
        sums: dict[str, list[Tensor]] = {}
        for span, scalars in operands.spans:
            for start in range(span.start, span.stop, self.size):
                part = slice(start, min(start + self.size, span.stop))
                outcome = program(operands.block(part, scalars))
                for name, value in outcome.writes.items():
                    target = operands.arrays[name]
                    if target.ndim:
                        target[part].copy_(value)
                    else:
                        # Every block must still see the old number.
                        numbers[name] = value
                for name, value in outcome.sums.items():
                    sums.setdefault(name, []).append(_stretch_sums(value, part.stop - part.start))
        for name, value in numbers.items():
            operands.arrays[name].copy_(value)
        return _total(sums)


def _stretch_sums(value: Tensor, length: int) -> Tensor:
    """Sums over stretches of ``STRETCH`` elements; a 0-d value stands for ``length`` equal ones."""
    if value.ndim == 0:
        return (value.double() * length).reshape(1)
    if length <= STRETCH:
        return value.sum().double().reshape(1)
    whole = length - length % STRETCH
    pieces = value[:whole].view(-1, STRETCH).sum(1).double()
    return pieces if whole == length else torch.cat([pieces, value[whole:].sum().double().reshape(1)])


def _total(sums: Mapping[str, list[Tensor]]) -> dict[str, float]:
    if not sums:
        return {}
    # One transfer for all of them, for the sake of GPUs.
    totals = torch.stack([torch.cat(parts).sum() for parts in sums.values()]).tolist()
    return dict(zip(sums, totals, strict=True))


@torch.no_grad()
def norms(program: Program, operands: Operands, layers: Sequence[Layer], per: str) -> dict[str, Tensor]:
    """‖·‖₂ of what ``program`` sums up, over each layer or over the whole model, spread out again to (d,)."""
    squares: dict[str, list[Tensor]] = {}
    for layer in layers:
        parts: dict[str, list[Tensor]] = {}
        for span, scalars in operands.spans:
            # A layer never crosses a span, so all but one of these ranges are empty.
            start, stop = max(layer.start, span.start), min(layer.stop, span.stop)
            for at in range(start, stop, Blocks.size):
                part = slice(at, min(at + Blocks.size, stop))
                for name, value in program(operands.block(part, scalars)).sums.items():
                    parts.setdefault(name, []).append(_stretch_sums(value * value, part.stop - part.start))
        for name, pieces in parts.items():
            squares.setdefault(name, []).append(torch.cat(pieces).sum())
    lengths = torch.tensor([layer.stop - layer.start for layer in layers], device=operands.arrays["theta"].device)
    result: dict[str, Tensor] = {}
    for name, per_layer in squares.items():
        norm = torch.stack(per_layer)
        norm = (norm.sum().expand(len(layers)) if per == "model" else norm).sqrt()
        result[name] = torch.repeat_interleave(norm, lengths).to(operands.arrays["theta"].dtype)
    return result


@dataclass
class Compiled:
    """Each program fused by ``torch.compile`` into one pass per span.

    Where compiling fails (no compiler on the machine, say) it says so once and goes on in blocks: slower, same results.
    """

    fallback: Blocks = field(default_factory=Blocks)
    _fused: dict[tuple[object, ...], Callable[..., Any]] = field(default_factory=dict, repr=False)
    _broken: bool = field(default=False, repr=False)

    @torch.no_grad()
    def run(self, program: Program, operands: Operands) -> dict[str, float]:
        """See `Executor`."""
        if self._broken:
            return self.fallback.run(program, operands)
        try:
            outcomes = [self._outcome(program, operands, span, numbers) for span, numbers in operands.spans]
        except Exception as error:  # whatever a compiler may raise; equations cannot fail, and nothing is written yet
            self._broken = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(
                f"cannot compile the server's step ({reason}); going on in blocks", RuntimeWarning, stacklevel=2
            )
            return self.fallback.run(program, operands)
        sums: dict[str, list[Tensor]] = {}
        for (span, _), outcome in zip(operands.spans, outcomes, strict=True):
            for name, value in outcome.writes.items():
                target = operands.arrays[name]
                (target[span.start : span.stop] if target.ndim else target).copy_(value)
            for name, value in outcome.sums.items():
                sums.setdefault(name, []).append(value.reshape(1))
        return _total(sums)

    def _outcome(
        self, program: Program, operands: Operands, span: Span, numbers: Mapping[str, Tensor | float]
    ) -> Outcome:
        constants = {name: value for name, value in numbers.items() if not isinstance(value, Tensor)}
        tensors = {name: value for name, value in numbers.items() if isinstance(value, Tensor)}
        tensors |= {name: a[span.start : span.stop] if a.ndim else a for name, a in operands.arrays.items()}
        key = (_identity(program), tuple(tensors), tuple(constants.items()))
        if key not in self._fused:
            self._fused[key] = _fuse(program, tuple(tensors), constants)
        writes, sums = self._fused[key](*tensors.values())
        length = span.stop - span.start
        return Outcome(writes, {name: value * length if small else value for name, (value, small) in sums.items()})


def _identity(program: Program) -> object:
    """Bound methods are made anew at each access; what they are bound to is not."""
    return (program.__func__, program.__self__) if isinstance(program, types.MethodType) else program


def _fuse(program: Program, names: Sequence[str], constants: Mapping[str, float]) -> Callable[..., Any]:
    def step(*values: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, bool]]]:
        outcome = program(Block({**constants, **dict(zip(names, values, strict=True))}))
        sums = {name: (value.double().sum(), value.ndim == 0) for name, value in outcome.sums.items()}
        return dict(outcome.writes), sums

    # Dynamo counts graphs per code object and gives up after a few, so each step has a code object of its own.
    own = types.FunctionType(
        step.__code__.replace(co_name=f"step_{id(step):x}"), globals(), None, step.__defaults__, step.__closure__
    )
    return torch.compile(own, dynamic=False, fullgraph=True)


def executor(choice: str | Executor) -> Executor:
    """``"blocks"``, ``"compiled"``, or an executor of your own."""
    named: dict[str, Callable[[], Executor]] = {"blocks": Blocks, "compiled": Compiled}
    if isinstance(choice, str):
        if choice not in named:
            raise ArgumentError(f"executor must be one of {', '.join(named)} or an Executor, got {choice!r}")
        return named[choice]()
    if not callable(getattr(choice, "run", None)):
        raise ArgumentError(f"executor must be one of {', '.join(named)} or an Executor, got {choice!r}")
    return choice
