"""A nested state in two parts that any program can read: plain JSON values, and tensors by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unstale.errors import StoreError

__all__ = ["pack", "tensor_bytes", "unpack"]

# An object with one of these as its only key stands for something else.
_TENSOR, _FLOAT, _OBJECT = "$tensor", "$float", "$object"
_KINDS = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL"},
}


def pack(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """JSON values that name tensors, and these. The state is of dicts by text, lists, tuples, JSON values and tensors.

    NaN and infinities may be among them; tuples become lists. A tensor that occurs twice is kept once.
    """
    tensors: dict[str, Tensor] = {}
    named: dict[int, str] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in named:
                named[id(value)] = f"{len(named)} {path}"
                tensors[named[id(value)]] = value.detach()
            return {_TENSOR: named[id(value)]}
        if isinstance(value, float) and not math.isfinite(value):
            return {_FLOAT: str(value)}
        if isinstance(value, list | tuple):
            return [walk(item, f"{path}.{place}") for place, item in enumerate(value)]
        if isinstance(value, Mapping):
            assert all(isinstance(key, str) for key in value), f"{path} has keys that are no text"
            found = {key: walk(item, f"{path}.{key}" if path else key) for key, item in value.items()}
            return {_OBJECT: found} if any(key.startswith("$") for key in found) else found
        return value

    return walk(state, ""), tensors


def unpack(document: Any, tensor: Callable[[str], Tensor]) -> Any:
    """The state again; ``tensor`` gives those that are named, and is asked once for each."""
    known: dict[str, Tensor] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        if not isinstance(value, dict):
            return value
        if value.keys() == {_TENSOR}:
            name = value[_TENSOR]
            if name not in known:
                known[name] = tensor(name)
            return known[name]
        if value.keys() == {_FLOAT}:
            return float(value[_FLOAT])
        inside = value[_OBJECT] if value.keys() == {_OBJECT} else value
        return {key: walk(item) for key, item in inside.items()}

    return walk(document)


def tensor_bytes(tensors: Mapping[str, Tensor], write: Callable[[Any], object]) -> None:
    """Write a safetensors file piece by piece: the library's own writer would hold a second copy of everything.

    Raises `StoreError` for a tensor of a kind that it cannot hold.
    """
    # Large elements first, so that each tensor begins at a multiple of its elements' size.
    ordered = sorted(tensors.items(), key=lambda named: -named[1].element_size())
    header: dict[str, Any] = {}
    end = 0
    for name, value in ordered:
        if value.dtype not in _KINDS:
            raise StoreError(f"{name} is of {value.dtype}, which cannot be stored; keep it in another dtype")
        start, end = end, end + value.numel() * value.element_size()
        header[name] = {"dtype": _KINDS[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    write(len(text).to_bytes(8, "little"))
    write(text)
    for _, value in ordered:
        # Strided anew: a dimension of at most one element may have any stride, and bytes need 1.
        write(value.cpu().contiguous().as_strided((value.numel(),), (1,)).view(torch.uint8).numpy().data)
