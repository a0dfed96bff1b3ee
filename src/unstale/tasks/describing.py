"""How a task's pieces are named in a run's configuration."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from unstale.describe import Plain, describe

__all__ = ["described", "name_of", "weights"]


def weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters and buffers, by name."""
    return ((name, value) for name, value in model.state_dict().items() if isinstance(value, Tensor))


def name_of(model: object) -> str:
    """What to call a model: the name of its class, or of the function that makes it."""
    origin = model.func if isinstance(model, partial) else model
    return str(getattr(origin, "__name__", type(origin).__name__))


def described(thing: object) -> Plain:
    """As `describe`; of a partial function, with the arguments that it has already."""
    if not isinstance(thing, partial):
        return describe(thing)
    return {
        "type": describe(thing.func),
        "args": describe(thing.args),
        **{k: describe(v) for k, v in thing.keywords.items()},
    }
