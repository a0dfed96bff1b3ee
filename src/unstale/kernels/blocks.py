"""The equations in cache-sized blocks: the reference, in torch's own operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unstale.errors import ArgumentError
from unstale.flat import Layer
from unstale.kernels.operands import Operands
from unstale.methods.steps import Program

__all__ = ["STRETCH", "Blocks", "norms", "total"]

# Sums are taken over stretches of this many elements first, so they do not depend on the size of the blocks.
STRETCH = 1024


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
                    target = operands.target(name)
                    if target.ndim:
                        target[part].copy_(value)
                    else:
                        # Every block must still see the old number.
                        numbers[name] = value
                for name, value in outcome.sums.items():
                    sums.setdefault(name, []).append(_stretch_sums(value, part.stop - part.start))
        for name, value in numbers.items():
            operands.target(name).copy_(value)
        return total(sums)


def _stretch_sums(value: Tensor, length: int) -> Tensor:
    """Sums over stretches of ``STRETCH`` elements; a 0-d value stands for ``length`` equal ones."""
    if value.ndim == 0:
        return (value.double() * length).reshape(1)
    if length <= STRETCH:
        return value.sum().double().reshape(1)
    whole = length - length % STRETCH
    pieces = value[:whole].view(-1, STRETCH).sum(1).double()
    return pieces if whole == length else torch.cat([pieces, value[whole:].sum().double().reshape(1)])


def total(sums: Mapping[str, list[Tensor]]) -> dict[str, float]:
    """Each name's parts, (k,) each, added up."""
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
