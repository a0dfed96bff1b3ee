"""The models of the built-in tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from unstale.checks import whole
from unstale.errors import UnknownNameError
from unstale.tasks.models.adaptive import Vocabulary
from unstale.tasks.models.language import for_text
from unstale.tasks.models.mlp import MLP
from unstale.tasks.models.resnet import ResNet, resnet8, resnet20
from unstale.tasks.models.transformer_xl import Shape, TransformerXL

__all__ = [
    "MLP",
    "ResNet",
    "Shape",
    "TransformerXL",
    "Vocabulary",
    "for_images",
    "for_text",
    "resnet8",
    "resnet20",
]

_WIDTHS = {"mlp": 256, "resnet8": 8, "resnet20": 16}
_RESNETS = {"resnet8": resnet8, "resnet20": resnet20}


def for_images(
    model: str, shape: tuple[int, int, int], classes: int, width: int | None = None
) -> Callable[[], nn.Module]:
    """A factory of the named model for pictures of ``shape`` (channels, height, width).

    "mlp" has two hidden layers of ``width`` units (256 if None); "resnet8" and "resnet20" have ``width`` filters in
    their first stage (8 and 16 if None).

    Raises: UnknownNameError for another name; ArgumentError for a width below 1.
    """
    if model not in _WIDTHS:
        raise UnknownNameError("model", model, _WIDTHS)
    width = _WIDTHS[model] if width is None else whole("width", width, 1)
    channels, height, breadth = shape
    if model == "mlp":
        return partial(MLP, inputs=channels * height * breadth, hidden=(width, width), classes=classes)
    return partial(_RESNETS[model], width=width, channels=channels, classes=classes)
