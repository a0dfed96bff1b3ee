"""Torch's element-wise operations as C expressions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unstale.kernels.trace import Op, Ref, UnsupportedError

__all__ = ["KINDS", "expression"]

KINDS = {torch.float32: "float", torch.float64: "double", torch.bool: "int"}

# {f} is the suffix of C's functions on floats; {a}, {b} the operands; {s} a factor of the second one.
_UNARY = {
    "abs": "fabs{f}({a})",
    "exp": "exp{f}({a})",
    "log": "log{f}({a})",
    "neg": "-{a}",
    "reciprocal": "1 / {a}",
    "rsqrt": "1 / sqrt{f}({a})",
    "sign": "({a} > 0) - ({a} < 0)",
    "sqrt": "sqrt{f}({a})",
    "square": "{a} * {a}",
    "tanh": "tanh{f}({a})",
}
_BINARY = {
    "add": "{a} + {s}{b}",
    "sub": "{a} - {s}{b}",
    "rsub": "{b} - {s}{a}",
    "mul": "{a} * {b}",
    "div": "{a} / {b}",
    "pow": "pow{f}({a}, {b})",
    # Like torch's, these let a NaN through, whichever side it is on.
    "maximum": "{a} != {a} || {a} > {b} ? {a} : {b}",
    "minimum": "{a} != {a} || {a} < {b} ? {a} : {b}",
    "clamp_min": "{a} < {b} ? {b} : {a}",
    "clamp_max": "{a} > {b} ? {b} : {a}",
    "gt": "{a} > {b}",
    "ge": "{a} >= {b}",
    "lt": "{a} < {b}",
    "le": "{a} <= {b}",
    "eq": "{a} == {b}",
    "ne": "{a} != {b}",
}
_SAME = frozenset({"_to_copy", "alias", "clone", "detach", "scalar_tensor"})
_CONSTANTS = {"zeros_like": "0", "ones_like": "1"}
_POWERS = {2: "square", 0.5: "sqrt"}  # as torch has them: pow() would round otherwise


def expression(op: Op, seen: Mapping[str, Tensor]) -> str:
    """``op`` in C, its operands by name. Raises `UnsupportedError` for an operation that is not in the tables."""
    name, args = op.target._schema.name.removeprefix("aten::"), op.args
    own, common = KINDS[op.like.dtype], _common(args, seen)
    if name in _SAME:
        return _value(args[0], own, seen)
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    if name == "where" and len(args) == 3:
        return f"{_value(args[0], 'int', seen)} ? {_value(args[1], own, seen)} : {_value(args[2], own, seen)}"
    if name == "pow" and not isinstance(args[1], Ref) and args[1] in _POWERS:
        name, args = _POWERS[args[1]], args[:1]
    if name in _UNARY and len(args) == 1:
        return _UNARY[name].format(f=_suffix(common), a=_value(args[0], common, seen))
    if name in _BINARY and len(args) in (2, 3):
        factor = op.kwargs.get("alpha", args[2] if len(args) == 3 else 1)
        scale = "" if factor == 1 else f"{_value(factor, common, seen)} * "
        a, b = (_value(arg, common, seen) for arg in args[:2])
        return _BINARY[name].format(f=_suffix(common), a=a, b=b, s=scale)
    raise UnsupportedError(f"{op.target} has no translation")


def _common(args: Sequence[Any], seen: Mapping[str, Tensor]) -> str:
    """The type in which torch works these out: a vector's if there is one, for numbers follow vectors."""
    tensors = [seen[arg.name] for arg in args if isinstance(arg, Ref)]
    dtypes = {tensor.dtype for tensor in [t for t in tensors if t.ndim] or tensors} - {torch.bool}
    if dtypes:
        return "double" if torch.float64 in dtypes else "float"
    return "double" if any(isinstance(arg, float) for arg in args) else "int"


def _suffix(kind: str) -> str:
    return "f" if kind == "float" else ""


def _value(arg: Any, kind: str, seen: Mapping[str, Tensor]) -> str:
    if isinstance(arg, Ref):
        return arg.name if KINDS[seen[arg.name].dtype] == kind else f"(({kind}){arg.name})"
    if not isinstance(arg, bool | int | float):
        raise UnsupportedError(f"{arg!r} is no number")
    if kind == "int":
        return str(int(arg))
    if math.isfinite(arg):
        return f"({kind}){float(arg).hex()}"
    return f"({kind}){'NAN' if math.isnan(arg) else 'INFINITY' if arg > 0 else '-INFINITY'}"
