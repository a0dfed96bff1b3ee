"""A task's models, before they train."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.parameter import is_lazy

from unstale.errors import ArgumentError

__all__ = ["ready", "snapshot"]


def ready(model: object) -> nn.Module:
    """The module, if it is one whose shapes are known. Raises `ArgumentError` if not."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"model must be, or make, a torch module, got {type(model).__name__}; return it from the factory"
        )
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise ArgumentError("model must know its shapes, got lazy parameters; run it once on one batch first")
    return model


def snapshot(model: nn.Module) -> nn.Module:
    """A copy without gradients. Raises `ArgumentError` if it cannot be made."""
    try:
        own = copy.deepcopy(ready(model))
    except RuntimeError as error:
        remedy = "pass a function of no arguments that makes the model"
        raise ArgumentError(f"model must be copyable, but {type(model).__name__} is not ({error}); {remedy}") from error
    own.zero_grad(set_to_none=True)
    return own
