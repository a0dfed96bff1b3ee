"""Programs fused by ``torch.compile``: for GPUs, and for what does not fit into one C loop."""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unstale.kernels.blocks import total
from unstale.kernels.operands import Numbers, Operands
from unstale.methods.block import Block
from unstale.methods.steps import Program

__all__ = ["InductorStep"]


_numbers = itertools.count()


class InductorStep:
    """One program, compiled once for each span's length; nothing else about it changes from push to push."""

    def __init__(self, program: Program, operands: Operands, numbers: Numbers) -> None:
        self._constants = {name: value for name, value in numbers.items() if not isinstance(value, Tensor)}
        self._names = [*operands.arrays, *(name for name in numbers if name not in self._constants)]
        self._fused: dict[int, Callable[..., Any]] = {}
        self._program = program

    @torch.no_grad()
    def run(self, operands: Operands) -> dict[str, float]:
        """All spans; answers the sums."""
        outcomes = []
        for span, numbers in operands.spans:
            tensors = {n: a[span.start : span.stop] if a.ndim else a for n, a in operands.arrays.items()}
            tensors |= {name: value for name, value in numbers.items() if isinstance(value, Tensor)}
            length = span.stop - span.start
            if length not in self._fused:
                self._fused[length] = _fuse(self._program, self._names, self._constants)
            outcomes.append((span, self._fused[length](*(tensors[name] for name in self._names))))
        sums: dict[str, list[Tensor]] = {}
        for span, (writes, terms) in outcomes:
            for name, value in writes.items():
                target = operands.target(name)
                (target[span.start : span.stop] if target.ndim else target).copy_(value)
            for name, (value, small) in terms.items():
                sums.setdefault(name, []).append((value * (span.stop - span.start) if small else value).reshape(1))
        return total(sums)


def _fuse(program: Program, names: Sequence[str], constants: Mapping[str, float]) -> Callable[..., Any]:
    def step(*values: Tensor) -> tuple[dict[str, Tensor], dict[str, tuple[Tensor, bool]]]:
        outcome = program(Block({**constants, **dict(zip(names, values, strict=True))}))
        sums = {name: (value.double().sum(), value.ndim == 0) for name, value in outcome.sums.items()}
        return dict(outcome.writes), sums

    # Dynamo counts graphs per code object and gives up after a few, so each step has a code object of its own.
    own = types.FunctionType(
        step.__code__.replace(co_name=f"step_{next(_numbers)}"), globals(), None, step.__defaults__, step.__closure__
    )
    return torch.compile(own, dynamic=False, fullgraph=True)
