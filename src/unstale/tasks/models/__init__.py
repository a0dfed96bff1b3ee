"""The models of the built-in tasks."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from torch import nn

from unstale.checks import whole
from unstale.errors import UnknownNameError
from unstale.tasks.models.adaptive import Vocabulary
from unstale.tasks.models.bottleneck import BottleneckResNet, resnet50
from unstale.tasks.models.language import for_text
from unstale.tasks.models.mlp import MLP
from unstale.tasks.models.resnet import ResNet, resnet8, resnet20
from unstale.tasks.models.transformer_xl import Shape, TransformerXL
from unstale.tasks.models.wide import WideResNet

__all__ = [
    "MLP",
    "BottleneckResNet",
    "ResNet",
    "Shape",
    "TransformerXL",
    "Vocabulary",
    "WideResNet",
    "for_images",
    "for_text",
    "resnet8",
    "resnet20",
    "resnet50",
]

_RESNETS: dict[str, tuple[Callable[..., nn.Module], int]] = {
    "resnet8": (resnet8, 8),
    "resnet20": (resnet20, 16),
    "resnet50": (resnet50, 64),
}
_MLP_WIDTH, _WIDE_WIDTH = 256, 16
_WIDE = re.compile(r"wrn(\d{1,4})_(\d{1,4})")
_EXAMPLES = ("wrn10_1", "wrn16_1", "wrn16_4")


def for_images(
    model: str, shape: tuple[int, int, int], classes: int, width: int | None = None
) -> Callable[[], nn.Module]:
    """A factory of the named model for pictures of ``shape`` (channels, height, width).

    "mlp" has two hidden layers of ``width`` units (256 if None). "resnet8", "resnet20" and "resnet50" have ``width``
    filters in their first stage (8, 16 and 64 if None), and so has the first convolution of "wrnD_K", the wide ResNet
    of depth D and widening K, such as "wrn16_4" (16 if None).

    Raises: UnknownNameError for another name; ArgumentError for a width below 1, or a depth that is not 6n + 4.
    """
    channels, height, breadth = shape
    chosen = None if width is None else whole("width", width, 1)
    if model in _RESNETS:
        make, usual = _RESNETS[model]
        return partial(make, width=chosen or usual, channels=channels, classes=classes)
    if found := _WIDE.fullmatch(str(model)):
        depth, widen = int(found[1]), whole("widen", int(found[2]), 1)
        WideResNet.blocks(depth)  # better now than when a run begins
        return partial(WideResNet, depth, widen, width=chosen or _WIDE_WIDTH, channels=channels, classes=classes)
    if model != "mlp":
        raise UnknownNameError("model", model, ["mlp", *_RESNETS, *_EXAMPLES])
    hidden = (chosen or _MLP_WIDTH,) * 2
    return partial(MLP, inputs=channels * height * breadth, hidden=hidden, classes=classes)
