"""What a model is like, for one who has not its code: names and shapes, and what its BatchNorm layers do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from unstale import flat
from unstale.buffers import normalisations
from unstale.errors import ArgumentError

__all__ = ["Likeness"]

_Shape = tuple[int, ...]


@dataclass(frozen=True)
class Likeness:
    """A model's trainable parameters by name, and its buffers; in order.

    same: other names of parameters that it has twice. saved: the buffers that are in its ``state_dict()``. norms: the
    momentum of each layer with running statistics, by its prefix.
    """

    dtype: str
    parameters: Mapping[str, _Shape]
    same: Mapping[str, str]
    buffers: Mapping[str, tuple[str, _Shape]]
    saved: tuple[str, ...]
    norms: Mapping[str, float | None]

    @staticmethod
    def of(module: nn.Module) -> Likeness:
        """Raises `ArgumentError` for a model without trainable parameters, or with those of several dtypes."""
        own = dict(flat.trainable(module))
        first = {parameter: name for name, parameter in own.items()}
        again = [(name, p) for name, p in module.named_parameters(remove_duplicate=False) if name not in own]
        buffers = dict(module.named_buffers())
        return Likeness(
            dtype=_name(next(iter(own.values())).dtype),
            parameters={name: tuple(parameter.shape) for name, parameter in own.items()},
            same={name: first[parameter] for name, parameter in again if parameter in first},
            buffers={name: (_name(value.dtype), tuple(value.shape)) for name, value in buffers.items()},
            saved=tuple(name for name in module.state_dict() if name in buffers),
            norms=normalisations(module),
        )

    def packed(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def unpacked(payload: bytes) -> Likeness:
        """What `packed` packed. Raises `ValueError` for anything else."""
        try:
            read = json.loads(payload)
            likeness = Likeness(
                dtype=str(read["dtype"]),
                parameters={str(name): _shape(shape) for name, shape in read["parameters"].items()},
                same={str(name): str(other) for name, other in read["same"].items()},
                buffers={str(name): (str(kind), _shape(shape)) for name, (kind, shape) in read["buffers"].items()},
                saved=tuple(map(str, read["saved"])),
                norms={str(name): None if m is None else float(m) for name, m in read["norms"].items()},
            )
            sound = likeness.size > 0 and likeness.kind.is_floating_point and likeness.blanks is not None
        except (AttributeError, KeyError, RuntimeError, TypeError) as error:
            raise ValueError(f"no description of a model ({error})") from error
        if not sound:
            raise ValueError("no description of a model (it has no parameters)")
        return likeness

    @cached_property
    def size(self) -> int:
        """d."""
        return sum(torch.Size(shape).numel() for shape in self.parameters.values())

    @property
    def kind(self) -> torch.dtype:
        """The parameters' dtype."""
        return _dtype(self.dtype)

    @property
    def blanks(self) -> dict[str, Tensor]:
        """Buffers of the right shapes and dtypes, without memory."""
        return {n: torch.empty(shape, dtype=_dtype(kind), device="meta") for n, (kind, shape) in self.buffers.items()}

    def layout(self, order: list[str] | None = None) -> flat.Layout:
        """Where each parameter lies in a vector, one after the other in ``order`` (default: the model's own)."""
        layers, start = [], 0
        for name in self.parameters if order is None else order:
            shape = torch.Size(self.parameters[name])
            layers.append(flat.Layer(name, start, start + shape.numel(), shape))
            start += shape.numel()
        return flat.Layout(start, tuple(layers), ())

    def difference(self, other: Likeness) -> str:
        """The first thing in which ``other`` differs from this, in words; empty if there is none."""
        return next(self._differences(other), "")

    def _differences(self, other: Likeness) -> Iterator[str]:
        if self.dtype != other.dtype:
            yield f"its parameters are {other.dtype}, not {self.dtype}"
        for kind in ("parameters", "buffers", "same", "norms"):
            ours, theirs = getattr(self, kind), getattr(other, kind)
            what = {"parameters": "parameter", "buffers": "buffer", "same": "shared parameter", "norms": "layer"}[kind]
            for name in [*ours, *(name for name in theirs if name not in ours)]:
                if name not in theirs:
                    yield f"it has no {what} {name!r}"
                elif name not in ours:
                    yield f"it has a {what} {name!r} too many"
                elif ours[name] != theirs[name]:
                    yield f"its {what} {name!r} is {_told(kind, theirs[name])}, not {_told(kind, ours[name])}"
            if list(ours) != list(theirs):
                yield f"its {what}s are in another order"

    def twin(self, module: nn.Module) -> nn.Module:
        """As `build`, on the CPU, with what is in ``module`` now."""
        values = flat.parameters(module, self.layout()).cpu()
        return self.build(values, {name: value.cpu() for name, value in module.named_buffers()})

    def build(self, values: Tensor, buffers: Mapping[str, Tensor]) -> nn.Module:
        """A module like it, which holds ``values``, (d,), and ``buffers``, but computes nothing.

        Raises `ArgumentError` for names that no module can have.
        """
        root = nn.Module()
        pieces = {name: nn.Parameter(view.clone()) for name, view in flat.split(values, self.layout()).items()}
        try:
            for name, piece in pieces.items():
                home, last = _home(root, name)
                home.register_parameter(last, piece)
            for name, other in self.same.items():
                home, last = _home(root, name)
                home.register_parameter(last, pieces[other])
            for name in self.buffers:
                home, last = _home(root, name)
                home.register_buffer(last, buffers[name].clone(), persistent=name in self.saved)
            for module in root.modules():
                module.training = False
            root.training = True
            for prefix, momentum in self.norms.items():
                home, _ = _home(root, f"{prefix}.")
                home.training = True
                vars(home).update(track_running_stats=True, momentum=momentum)
        except (KeyError, TypeError) as error:
            raise ArgumentError(f"the model must have parameters that a module can have, got {error}") from error
        return root


def _home(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module that holds what ``path`` names, made if need be, and the last name."""
    *parents, last = path.split(".")
    module = root
    for parent in parents:
        if not parent:
            continue
        if parent not in module._modules:
            module.add_module(parent, nn.Module())
        child = module._modules[parent]
        assert child is not None
        module = child
    return module, last


def _told(kind: str, value: Any) -> str:
    if kind == "parameters":
        return f"of shape {value}"
    return f"{value[0]} of shape {value[1]}" if kind == "buffers" else f"{value!r}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"no dtype {name!r}")
    return found


def _shape(sizes: list[Any]) -> _Shape:
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError(f"no shape {sizes!r}")
    return tuple(sizes)
