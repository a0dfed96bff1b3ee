"""A traced program as one loop in C: every element is read once and written once.

Contraction to fused multiply-adds is off, so each operation rounds as torch's own does, and θ comes out the same to the
bit. Sums are kept in vector lanes over a stretch and in double beyond it, so they differ in their last digits.
"""

from __future__ import annotations

from collections.abc import Iterator

from unstale.kernels.blocks import STRETCH
from unstale.kernels.expressions import KINDS, expression
from unstale.kernels.trace import SAMPLE, Ref, Trace, UnsupportedError

__all__ = ["FLAGS", "source"]

FLAGS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd")

_LOOP = """\
#include <math.h>

void step(long start, long stop, void *const *pointers, double *out) {{
{inputs}
{numbers}
  for (long at = start; at < stop; at += {stretch}) {{
    const long end = at + {stretch} < stop ? at + {stretch} : stop;
{sums}
    #pragma omp simd{reduction}
    for (long i = at; i < end; i++) {{
{elements}
    }}
{totals}
  }}
{results}
}}
"""


def source(trace: Trace) -> str:
    """C for ``step(start, stop, pointers, out)``.

    pointers: of every input in order, then of the target of every vector that is written. out: every sum, then every
    number that is written. Raises `UnsupportedError` for an operation that has no translation.
    """
    for name, value in trace.seen.items():
        if value.dtype not in KINDS or value.shape not in ((), (SAMPLE,)):
            raise UnsupportedError(f"{name} is {value.dtype} of shape {tuple(value.shape)}")
    targets = {name: ref.name for name, ref in trace.writes.items() if _is_vector(trace, ref)}
    summed = {name: ref.name for name, ref in trace.sums.items() if _is_vector(trace, ref)}
    terms = ", ".join(f"sum_{name}" for name in summed)
    return _LOOP.format(
        stretch=STRETCH,
        reduction=f" reduction(+ : {terms})" if terms else "",
        inputs=_lines(2, _inputs(trace, targets)),
        numbers=_lines(2, [*_operations(trace, of_vectors=False), *(f"double total_{name} = 0;" for name in summed)]),
        sums=_lines(4, (f"{_kind(trace, value)} sum_{name} = 0;" for name, value in summed.items())),
        elements=_lines(6, _elements(trace, targets, summed)),
        totals=_lines(4, (f"total_{name} += sum_{name};" for name in summed)),
        results=_lines(2, (f"out[{place}] = {value};" for place, value in enumerate(_results(trace)))),
    )


def _inputs(trace: Trace, targets: dict[str, str]) -> Iterator[str]:
    for place, (name, value) in enumerate(trace.inputs.items()):
        kind = KINDS[value.dtype]
        read = f"(const {kind} *)pointers[{place}]"
        yield f"const {kind} *p_{name} = {read};" if value.ndim else f"const {kind} {name} = *{read};"
    for place, (name, value_name) in enumerate(targets.items(), len(trace.inputs)):
        kind = _kind(trace, value_name)
        yield f"{kind} *w_{name} = ({kind} *)pointers[{place}];"


def _elements(trace: Trace, targets: dict[str, str], summed: dict[str, str]) -> Iterator[str]:
    for name, value in trace.inputs.items():
        if value.ndim and name in trace.needed:
            yield f"const {KINDS[value.dtype]} {name} = p_{name}[i];"
    yield from _operations(trace, of_vectors=True)
    # All reads come before any write: a vector may be both.
    yield from (f"w_{name}[i] = {value};" for name, value in targets.items())
    yield from (f"sum_{name} += {value};" for name, value in summed.items())


def _operations(trace: Trace, *, of_vectors: bool) -> Iterator[str]:
    """What is worked out for each element, or once for all of them."""
    for op in trace.ops:
        if op.name in trace.needed and (op.like.ndim > 0) == of_vectors:
            yield f"const {KINDS[op.like.dtype]} {op.name} = {expression(op, trace.seen)};"


def _results(trace: Trace) -> Iterator[str]:
    for name, ref in trace.sums.items():
        yield f"total_{name}" if _is_vector(trace, ref) else f"(double){ref.name} * (stop - start)"
    yield from (ref.name for ref in trace.writes.values() if not _is_vector(trace, ref))


def _is_vector(trace: Trace, ref: Ref) -> bool:
    return trace.seen[ref.name].ndim > 0


def _kind(trace: Trace, name: str) -> str:
    return KINDS[trace.seen[name].dtype]


def _lines(indent: int, lines: Iterator[str] | list[str]) -> str:
    return "\n".join(f"{' ' * indent}{line}" for line in lines)
