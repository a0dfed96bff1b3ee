"""A module's parameters as one vector of d elements, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unstale import checks, placing
from unstale.errors import ArgumentError, GradientError

__all__ = ["FlatModule", "Group", "Layer", "Layout", "Span", "decay_matrices_only", "parameters", "split"]


@dataclass(frozen=True)
class Group:
    """Parameters that have a learning rate or weight decay of their own.

    ``select`` says which: ``(name, parameter) -> bool`` for a module, a ``slice`` for a vector. Their learning rate is
    ``lr_scale`` times the server's; ``weight_decay=None`` is the server's. What no group selects has the server's own.
    """

    select: Callable[[str, nn.Parameter], bool] | slice
    lr_scale: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("lr_scale", self.lr_scale), ("weight_decay", self.weight_decay)):
            if value is not None:
                checks.nonnegative(name, value)


@dataclass(frozen=True)
class Layer:
    """One parameter tensor's place in the vector."""

    name: str
    start: int
    stop: int
    shape: torch.Size


@dataclass(frozen=True)
class Span:
    """A stretch of the vector with one learning-rate scale and one weight decay."""

    start: int
    stop: int
    lr_scale: float
    weight_decay: float


@dataclass(frozen=True)
class Layout:
    """Where everything lies: ``size`` d, its layers, and its spans, both in order and covering 0 … d."""

    size: int
    layers: tuple[Layer, ...]
    spans: tuple[Span, ...]

    @staticmethod
    def of_module(module: nn.Module, groups: Sequence[Group] = (), weight_decay: float = 0.0) -> Layout:
        """The trainable parameters, group by group in the order given, then what no group selects."""
        left = list(trainable(module))
        layers: list[Layer] = []
        spans: list[Span] = []
        for group in [*_checked(groups), Group(lambda name, parameter: True)]:
            if not callable(group.select):
                raise ArgumentError(
                    f"Group.select must be a function (name, parameter) -> bool for a module, got {group.select}"
                )
            select = group.select
            chosen = [pair for pair in left if select(*pair)]
            left = [pair for pair in left if not any(pair[1] is parameter for _, parameter in chosen)]
            start = position = layers[-1].stop if layers else 0
            for name, parameter in chosen:
                layers.append(Layer(name, position, position + parameter.numel(), parameter.shape))
                position += parameter.numel()
            if position > start:
                spans.append(_span(start, position, group, weight_decay))
            elif group in groups:
                raise ArgumentError(f"each group must select a parameter that none before it did, got none for {group}")
        return Layout(layers[-1].stop, tuple(layers), tuple(spans))

    @staticmethod
    def of_vector(size: int, groups: Sequence[Group] = (), weight_decay: float = 0.0) -> Layout:
        """A bare vector: each stretch between the groups' borders is a layer."""
        spans: list[Span] = []
        position = 0
        rest = Group(slice(None))
        for start, stop, group in sorted(
            (_bounds(group, size) for group in _checked(groups)), key=lambda bounds: bounds[:2]
        ):
            if start < position:
                raise ArgumentError(f"groups must not overlap, got element {start} in two of them")
            if start > position:
                spans.append(_span(position, start, rest, weight_decay))
            spans.append(_span(start, stop, group, weight_decay))
            position = stop
        if position < size:
            spans.append(_span(position, size, rest, weight_decay))
        layers = (Layer(f"[{s.start}:{s.stop}]", s.start, s.stop, torch.Size([s.stop - s.start])) for s in spans)
        return Layout(size, tuple(layers), tuple(spans))


def _checked(groups: Sequence[Group]) -> Sequence[Group]:
    if not isinstance(groups, list | tuple) or not all(isinstance(group, Group) for group in groups):
        raise ArgumentError(f"groups must be a list of Group, got {groups!r}")
    return groups


def _span(start: int, stop: int, group: Group, weight_decay: float) -> Span:
    return Span(start, stop, group.lr_scale, weight_decay if group.weight_decay is None else group.weight_decay)


def _bounds(group: Group, size: int) -> tuple[int, int, Group]:
    if not isinstance(group.select, slice):
        raise ArgumentError(f"Group.select must be a slice for a vector, got {group.select!r}")
    start, stop, stride = group.select.indices(size)
    if stride != 1 or stop <= start:
        raise ArgumentError(f"Group.select must be a non-empty slice of step 1 within 0 … {size}, got {group.select}")
    return start, stop, group


def decay_matrices_only() -> tuple[Group, ...]:
    """Groups that take weight decay off every parameter with one dimension or none: BatchNorm's, and biases."""
    return (Group(lambda name, parameter: parameter.ndim <= 1, weight_decay=0.0),)


def trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that require a gradient, shared ones once. Raises `ArgumentError` for none, or of mixed kinds."""
    found = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if not found:
        raise ArgumentError("the module must have at least one parameter with requires_grad=True, got none")
    kinds = {(p.dtype, p.device) for _, p in found}
    if len(kinds) > 1:
        seen = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise ArgumentError(
            f"a module's parameters must share one dtype and device, got {seen}; convert it with .to(…)"
        )
    return iter(found)


def split(vector: Tensor, layout: Layout) -> dict[str, Tensor]:
    """Views of ``vector``, (d,), shaped as the layers, by name."""
    return {layer.name: vector[layer.start : layer.stop].view(layer.shape) for layer in layout.layers}


@torch.no_grad()
def parameters(module: nn.Module, layout: Layout) -> Tensor:
    """(d,) a copy of the module's parameters."""
    named = dict(module.named_parameters())
    return torch.cat([named[layer.name].detach().reshape(-1) for layer in layout.layers])


@torch.no_grad()
def load(vector: Tensor, module: nn.Module, layout: Layout) -> None:
    """Copy ``vector``, (d,), into the module's parameters. Raises `ArgumentError` if it has others."""
    _copy("parameter", split(vector, layout), dict(module.named_parameters()))


@torch.no_grad()
def load_buffers(buffers: Mapping[str, Tensor], module: nn.Module) -> None:
    """Copy buffers into the module's. Raises `ArgumentError` if it has others."""
    _copy("buffer", buffers, dict(module.named_buffers()))


def _copy(kind: str, values: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        if name not in targets or targets[name].shape != value.shape:
            got = f"shape {tuple(targets[name].shape)}" if name in targets else "none of that name"
            raise ArgumentError(f"the module must have a {kind} {name!r} of shape {tuple(value.shape)}, got {got}")
    for name, value in values.items():
        targets[name].copy_(value)


@torch.no_grad()
def gradient(module: nn.Module, layout: Layout) -> Tensor:
    """(d,) the module's ``.grad``s; zero for a parameter that the loss does not reach, as long as it reaches one."""
    named = dict(module.named_parameters())
    missing = [layer.name for layer in layout.layers if layer.name not in named]
    if missing:
        raise GradientError(f"the pushed module must have the server's parameters, but has no {missing[0]!r}")
    grads = [named[layer.name].grad for layer in layout.layers]
    if all(grad is None for grad in grads):
        raise GradientError("the pushed module has no gradients; call loss.backward() before push")
    pieces = [
        torch.zeros_like(named[layer.name]) if grad is None else grad.to_dense()
        for layer, grad in zip(layout.layers, grads, strict=True)
    ]
    return torch.cat([piece.reshape(-1) for piece in pieces])


class FlatModule:
    """A module whose parameters and gradients are views of two vectors, ``params`` and ``grad``, (d,) each.

    Loading a point is one copy, and a backward pass leaves the whole gradient in one piece. The module is changed: give
    it one of your own. ``vectors``: the two, if they are there already; what is in them is not read.
    """

    def __init__(self, module: nn.Module, layout: Layout, vectors: tuple[Tensor, Tensor] | None = None) -> None:
        self.module = module
        values = parameters(module, layout)
        if vectors is None:
            vectors = values, placing.empty(values, placing.GRADIENT).zero_()
        self.params, self.grad = vectors
        named = dict(module.named_parameters())
        for name, view in split(self.params, layout).items():
            named[name].data = view
        for name, view in split(self.grad, layout).items():
            named[name].grad = view

    def load(self, point: Tensor) -> None:
        """Take over a point, (d,), and forget the last gradient."""
        if point.data_ptr() != self.params.data_ptr():
            self.params.copy_(point)
        self.grad.zero_()
