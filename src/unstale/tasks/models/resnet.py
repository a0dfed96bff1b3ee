"""Residual networks for small pictures.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad, relu

from unstale.checks import whole
from unstale.errors import ArgumentError
from unstale.tasks.models.layers import conv3x3, initialise

__all__ = ["ResNet", "resnet8", "resnet20"]


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters ("option A").

    Where the shape changes, the shortcut takes every second pixel and fills the new channels with zeros.
    """

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, filters, stride), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = conv3x3(filters, filters), nn.BatchNorm2d(filters)
        self.stride, self.new_channels = stride, filters - channels

    def shortcut(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C + new, ceil(H / stride), ceil(W / stride))."""
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))

    def forward(self, x: Tensor) -> Tensor:
        """The residual added to the shortcut."""
        residual = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(residual + self.shortcut(x))


class ResNet(nn.Module):
    """A ResNet of ``depth`` = 6n + 2 layers: three stages of n blocks with w, 2w and 4w filters.

    Maps (B, channels, H, W) of any H and W to (B, classes) logits, by global average pooling.
    Weights start as `layers.initialise` says.

    Raises: ArgumentError for a depth that is not 8, 14, 20, …, or other sizes below 1.
    """

    def __init__(self, depth: int, width: int = 16, channels: int = 3, classes: int = 10) -> None:
        super().__init__()
        blocks, rest = divmod(whole("depth", depth, 8) - 2, 6)
        if rest:
            raise ArgumentError(
                f"depth must be 6n + 2, got {depth}; the nearest are {6 * blocks + 2} and {6 * blocks + 8}"
            )
        width = whole("width", width, 1)
        self.conv, self.bn = conv3x3(whole("channels", channels, 1), width), nn.BatchNorm2d(width)
        self.stages = nn.Sequential(
            _stage(blocks, width, width), _stage(blocks, width, 2 * width), _stage(blocks, 2 * width, 4 * width)
        )
        self.classifier = nn.Linear(4 * width, whole("classes", classes, 1))
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, classes)."""
        features = self.stages(relu(self.bn(self.conv(images))))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def _stage(blocks: int, channels: int, filters: int) -> nn.Sequential:
    first = Block(channels, filters, stride=1 if channels == filters else 2)
    return nn.Sequential(first, *(Block(filters, filters, stride=1) for _ in range(blocks - 1)))


def resnet8(width: int = 16, channels: int = 3, classes: int = 10) -> ResNet:
    """The ResNet of 8 layers."""
    return ResNet(8, width, channels, classes)


def resnet20(width: int = 16, channels: int = 3, classes: int = 10) -> ResNet:
    """The ResNet of 20 layers: 269,722 parameters at width 16, 3 channels, 10 classes.

    With projections as shortcuts ("option B"), which the paper does not use on CIFAR, there would be 272,474.
    """
    return ResNet(20, width, channels, classes)
