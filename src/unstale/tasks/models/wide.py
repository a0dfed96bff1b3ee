"""Wide residual networks, with the norm and the ReLU before each convolution.

Source: Zagoruyko, Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146, and their published code.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from unstale.checks import whole
from unstale.errors import ArgumentError
from unstale.tasks.models.layers import conv1x1, conv3x3, initialise

__all__ = ["WideResNet"]


class Block(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice, added to the shortcut; no dropout.

    Where the number of channels changes, the shortcut is a 1x1 convolution of the input after its norm and ReLU.
    """

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), conv3x3(channels, filters, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(filters), conv3x3(filters, filters)
        self.shortcut = None if channels == filters else conv1x1(channels, filters, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, filters, ceil(H / stride), ceil(W / stride))."""
        active = relu(self.bn1(x))
        residual: Tensor = self.conv2(relu(self.bn2(self.conv1(active))))
        return residual + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-``depth``-``widen``: ``depth`` = 6n + 4, ``widen`` = k, three stages of n blocks.

    They have wk, 2wk and 4wk filters, and the first convolution has ``width`` = w = 16. Maps (B, channels, H, W) of any
    H and W to (B, classes) logits, by global average pooling. WRN-16-4 has 2,748,890 parameters at 3 channels and 10
    classes.
    Weights start as `layers.initialise` says.

    Raises: ArgumentError for a depth that is not 10, 16, 22, 28, …, or other sizes below 1.
    """

    def __init__(self, depth: int, widen: int, width: int = 16, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        blocks = self.blocks(depth)
        width = whole("width", width, 1)
        wide = whole("widen", widen, 1) * width
        self.conv = conv3x3(whole("channels", channels, 1), width)
        self.stages = nn.Sequential(
            _stage(blocks, width, wide, 1), _stage(blocks, wide, 2 * wide, 2), _stage(blocks, 2 * wide, 4 * wide, 2)
        )
        self.bn = nn.BatchNorm2d(4 * wide)
        self.classifier = nn.Linear(4 * wide, whole("classes", classes, 1))
        initialise(self)

    @staticmethod
    def blocks(depth: int) -> int:
        """How many in a stage. Raises `ArgumentError` for a depth that is not 6n + 4."""
        blocks, rest = divmod(whole("depth", depth, 10) - 4, 6)
        if rest:
            raise ArgumentError(
                f"depth must be 6n + 4, got {depth}; the nearest are {6 * blocks + 4} and {6 * blocks + 10}"
            )
        return blocks

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, classes)."""
        features = relu(self.bn(self.stages(self.conv(images))))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def _stage(blocks: int, channels: int, filters: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Block(channels, filters, stride), *(Block(filters, filters, stride=1) for _ in range(blocks - 1))
    )
