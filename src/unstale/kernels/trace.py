"""A program's equations as a list of element-wise operations, read off one run on a few numbers.

Equations are branch-free and element-wise, so what torch computes for one small block is what there is to compute for
any. What depends on numbers only is told apart: it is worked out once a push, not once an element.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from unstale.dispatch import Recorder
from unstale.methods.block import Block
from unstale.methods.steps import Outcome, Program

__all__ = ["SAMPLE", "Op", "Ref", "Trace", "UnsupportedError", "trace"]

SAMPLE = 37  # elements; odd, so that loops over several at a time have a rest


class UnsupportedError(Exception):
    """An equation does something that cannot be written as one loop; the message says what."""


@dataclass(frozen=True)
class Ref:
    """The result of an earlier operation, or an input."""

    name: str


@dataclass(frozen=True)
class Op:
    """One operation of torch's: ``target`` applied to numbers and earlier results. ``like`` is its result."""

    name: str
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    like: Tensor


@dataclass(frozen=True)
class Trace:
    """A program as operations: inputs, operations in order, and which of them are written or summed under which name.

    ``outcome`` is what the program answered for ``inputs``.
    """

    inputs: Mapping[str, Tensor]
    ops: tuple[Op, ...]
    writes: Mapping[str, Ref]
    sums: Mapping[str, Ref]
    outcome: Outcome

    @cached_property
    def seen(self) -> dict[str, Tensor]:
        """Every value by name, as it was in that run."""
        return {**self.inputs, **{op.name: op.like for op in self.ops}}

    @cached_property
    def needed(self) -> frozenset[str]:
        """Names that the results depend on."""
        needed = {ref.name for ref in (*self.writes.values(), *self.sums.values())}
        for op in reversed(self.ops):
            if op.name in needed:
                needed |= {arg.name for arg in (*op.args, *op.kwargs.values()) if isinstance(arg, Ref)}
        return frozenset(needed)


class _Recorder(Recorder):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            raise UnsupportedError(f"{func} answers no tensor")
        self.calls.append((func, args, kwargs, result))
        return result


@torch.no_grad()
def trace(program: Program, like: Mapping[str, Tensor], constants: Mapping[str, float]) -> Trace:
    """Run ``program`` on a few elements of the dtypes of ``like``, and write down what it does.

    Raises `UnsupportedError` where that is not a list of operations on its inputs.
    """
    source = torch.Generator().manual_seed(0)
    inputs = {name: _example(value, source) for name, value in like.items()}
    with _Recorder() as recorder:
        outcome = program(Block({**constants, **inputs}))
    known = {id(value): Ref(name) for name, value in inputs.items()}
    ops = []
    for number, (target, args, kwargs, result) in enumerate(recorder.calls):
        if id(result) in known:
            raise UnsupportedError(f"{target} changes its argument in place")
        name = f"t{number}"
        named = dict(zip(kwargs, _refs(tuple(kwargs.values()), known), strict=True))
        ops.append(Op(name, target, _refs(args, known), named, result))
        known[id(result)] = Ref(name)
    writes, sums = (
        {name: _ref(value, known) for name, value in part.items()} for part in (outcome.writes, outcome.sums)
    )
    return Trace(inputs, tuple(ops), writes, sums, outcome)


def _example(like: Tensor, source: torch.Generator) -> Tensor:
    shape = (SAMPLE,) if like.ndim else ()
    # Positive, so that roots of states exist; whole and above 1, so that counters make sense.
    value = torch.rand(shape, generator=source, dtype=torch.float64) if like.ndim else torch.tensor(3.0).double()
    return value.to(like.dtype)


def _refs(values: tuple[Any, ...], known: Mapping[int, Ref]) -> tuple[Any, ...]:
    return tuple(_ref(value, known) if isinstance(value, Tensor) else value for value in values)


def _ref(value: Tensor, known: Mapping[int, Ref]) -> Ref:
    if id(value) not in known:
        raise UnsupportedError("an equation uses a tensor that is not in its block")
    return known[id(value)]
