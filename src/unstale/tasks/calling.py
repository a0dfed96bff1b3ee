"""How a task calls its model, and what it makes of the answer."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unstale.errors import ArgumentError

__all__ = ["evaluating", "forward", "scalar"]


def forward(model: Callable[..., Any], inputs: object) -> Any:
    """``model`` at ``inputs``: a tuple or list is spread over its arguments, a dict over their names."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple | list) and not isinstance(inputs, PackedSequence):
        return model(*inputs)
    return model(inputs)


def scalar(name: str, value: Any) -> Any:
    """``value``, if it is one number. Raises `ArgumentError`, under ``name``, if not."""
    if not isinstance(value, numbers.Real) and (not isinstance(value, Tensor) or value.ndim):
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise ArgumentError(f"{name} must give one number for a batch, got {got}; return the mean, as by .mean()")
    return value


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode and without gradients; then each of its parts in its previous mode."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
