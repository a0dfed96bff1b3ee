"""Programs as C loops, run on the CPU: made once for each program and kinds of operands, and looked at before use."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from unstale.flat import Span
from unstale.kernels.loop import FLAGS, source
from unstale.kernels.operands import Numbers, Operands
from unstale.kernels.toolchain import build
from unstale.kernels.trace import SAMPLE, Trace, UnsupportedError, trace
from unstale.methods.steps import Program

__all__ = ["NativeStep", "step_threads"]

# What one thread does at a time. Sums are added up by such pieces, so they do not depend on the number of threads.
PIECE = 262_144

_allowed: ContextVar[int] = ContextVar("threads of a step", default=0)


@contextmanager
def step_threads(threads: int) -> Iterator[None]:
    """In this thread, let steps use so many, whatever torch's own operations do: their results do not depend on it."""
    before = _allowed.set(threads)
    try:
        yield
    finally:
        _allowed.reset(before)


class NativeStep:
    """One program as a compiled loop.

    Raises `UnsupportedError` for a program that is not one loop, or whose loop does not reproduce what torch computes,
    and `NoCompilerError` where there is no compiler.
    """

    def __init__(self, program: Program, operands: Operands, numbers: Numbers) -> None:
        constants = {name: value for name, value in numbers.items() if not isinstance(value, Tensor)}
        made = trace(program, _tensors(operands, numbers), constants)
        for name, ref in made.writes.items():
            if made.seen[ref.name].ndim and made.seen[ref.name].dtype != operands.target(name).dtype:
                raise UnsupportedError(f"{name} is written in another dtype than it is kept in")
        self._function = build(source(made), "step", FLAGS)
        self._function.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self._function.restype = None
        self._arrays, self._numbers = list(operands.arrays), [n for n in numbers if n not in constants]
        self._writes = [name for name, ref in made.writes.items() if made.seen[ref.name].ndim]
        self._counters = [name for name in made.writes if name not in self._writes]
        self._sums = list(made.sums)
        self._results = len(self._sums) + len(self._counters)
        _check(self, made)

    def run(self, operands: Operands) -> dict[str, float]:
        """All spans; answers the sums."""
        totals = [0.0] * self._results
        for span, numbers in operands.spans:
            pointers = self._pointers(operands, numbers)
            for piece in self._pieces(span, pointers):
                for place in range(len(self._sums)):
                    totals[place] += piece[place]
                totals[len(self._sums) :] = piece[len(self._sums) :]
        for name, value in zip(self._counters, totals[len(self._sums) :], strict=True):
            operands.target(name).fill_(value)
        return dict(zip(self._sums, totals, strict=False))

    def _pointers(self, operands: Operands, numbers: Numbers) -> Any:
        arrays, given = operands.arrays, numbers
        addresses = [arrays[name].data_ptr() for name in self._arrays]
        addresses += [given[name].data_ptr() for name in self._numbers]  # type: ignore[union-attr]
        addresses += [operands.target(name).data_ptr() for name in self._writes]
        return (ctypes.c_void_p * len(addresses))(*addresses)

    def _pieces(self, span: Span, pointers: Any) -> list[list[float]]:
        starts = range(span.start, span.stop, PIECE)
        found: list[list[float]] = [[] for _ in starts]
        # Whoever is free takes the next piece: where the other cores are busy, this thread does them all.
        pieces = iter(enumerate(starts))

        def work() -> None:
            for n, start in pieces:
                found[n] = self._piece(start, span.stop, pointers)

        allowed = _allowed.get() or torch.get_num_threads()
        others = min(allowed, (span.stop - span.start) // PIECE) - 1  # not for the sake of a piece that is not whole
        helping = list[Future[None]]()
        try:
            with suppress(RuntimeError):  # there are no more threads to be had, as when Python ends
                for _ in range(others):
                    helping.append(_threads(allowed, os.getpid()).submit(work))
            work()
        finally:  # nobody may be at it when its memory goes
            for helper in helping:
                if not helper.cancel():
                    helper.result()
        return found

    def _piece(self, start: int, stop: int, pointers: Any) -> list[float]:
        out = (ctypes.c_double * self._results)()
        self._function(start, min(start + PIECE, stop), pointers, out)
        return list(out)


def fits(operands: Operands) -> bool:
    """Whether everything lies in this machine's memory, in one piece."""
    tensors = [*operands.arrays.values(), *operands.into.values()]
    return all(t.device.type == "cpu" and t.is_contiguous() for t in tensors)


@lru_cache(maxsize=1)
def _threads(count: int, process: int) -> ThreadPoolExecutor:
    """Kept between pushes; another one after a fork, which takes no threads along."""
    return ThreadPoolExecutor(count, thread_name_prefix="unstale-step")


def _tensors(operands: Operands, numbers: Numbers) -> Mapping[str, Tensor]:
    return {**operands.arrays, **{name: value for name, value in numbers.items() if isinstance(value, Tensor)}}


def _check(step: NativeStep, made: Trace) -> None:
    """Run the loop on the numbers that were traced: it must give what torch gave."""
    arrays = {name: made.inputs[name].clone() for name in step._arrays}
    numbers = {name: made.inputs[name] for name in step._numbers}
    sums = step.run(Operands(arrays, [(Span(0, SAMPLE, 1.0, 0.0), numbers)]))
    for name, value in made.outcome.writes.items():
        if not torch.allclose(arrays[name], value.to(arrays[name].dtype), rtol=1e-5, atol=1e-6, equal_nan=True):
            raise UnsupportedError(f"the compiled loop gives another {name}")
    for name, value in made.outcome.sums.items():
        wanted = value.double().sum() if value.ndim else value.double() * SAMPLE
        if not torch.allclose(torch.tensor(sums[name]).double(), wanted, rtol=1e-4, atol=1e-6, equal_nan=True):
            raise UnsupportedError(f"the compiled loop gives another sum of {name}")
