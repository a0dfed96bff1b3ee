"""Residual networks for large pictures, in their ImageNet form.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import relu

from unstale.checks import whole
from unstale.tasks.models.layers import conv1x1, conv3x3, initialise

__all__ = ["BottleneckResNet", "resnet50"]

EXPANSION = 4


class Block(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last with four times the filters, and a shortcut.

    The stride is that of the 3x3 convolution ("v1.5", as torchvision has it; the paper puts it into the first 1x1).
    Where the shape changes, the shortcut is a 1x1 convolution and a norm ("option B").
    """

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        out = EXPANSION * filters
        self.conv1, self.bn1 = conv1x1(channels, filters), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = conv3x3(filters, filters, stride), nn.BatchNorm2d(filters)
        self.conv3, self.bn3 = conv1x1(filters, out), nn.BatchNorm2d(out)
        same = stride == 1 and channels == out
        self.shortcut = None if same else nn.Sequential(conv1x1(channels, out, stride), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, 4·filters, ceil(H / stride), ceil(W / stride))."""
        residual: Tensor = relu(self.bn1(self.conv1(x)))
        residual = relu(self.bn2(self.conv2(residual)))
        return relu(self.bn3(self.conv3(residual)) + (x if self.shortcut is None else self.shortcut(x)))


class BottleneckResNet(nn.Module):
    """Four stages of ``blocks`` with w, 2w, 4w and 8w filters (times 4 at their ends), w = ``width``.

    They follow a 7x7 convolution and a 3x3 maximum, both of stride 2. Maps (B, channels, H, W) to (B, classes) logits,
    by global average pooling. Weights start as `layers.initialise` says.

    Raises: ArgumentError for sizes below 1.
    """

    def __init__(self, blocks: tuple[int, ...], width: int = 64, channels: int = 3, classes: int = 1000) -> None:
        super().__init__()
        width = whole("width", width, 1)
        self.conv = nn.Conv2d(whole("channels", channels, 1), width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        stages: list[nn.Module] = []
        before = width
        for number, count in enumerate(blocks):
            filters, stride = width * 2**number, 1 if number == 0 else 2
            first = Block(before, filters, stride)
            before = EXPANSION * filters
            stages.append(nn.Sequential(first, *(Block(before, filters, 1) for _ in range(count - 1))))
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(before, whole("classes", classes, 1))
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) → (B, classes)."""
        features = self.stages(self.pool(relu(self.bn(self.conv(images)))))
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits


def resnet50(width: int = 64, channels: int = 3, classes: int = 1000) -> BottleneckResNet:
    """The ResNet of 50 layers: 25,557,032 parameters at width 64, 3 channels, 1000 classes."""
    return BottleneckResNet((3, 4, 6, 3), width, channels, classes)
