"""What the convolutional models have in common: how they convolve, and how their weights start."""

from __future__ import annotations

from torch import nn

__all__ = ["conv1x1", "conv3x3", "initialise"]


def conv3x3(channels: int, filters: int, stride: int = 1) -> nn.Conv2d:
    """Padded by 1, without a bias: a norm follows."""
    return nn.Conv2d(channels, filters, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(channels: int, filters: int, stride: int = 1) -> nn.Conv2d:
    """A projection, without a bias."""
    return nn.Conv2d(channels, filters, kernel_size=1, stride=stride, bias=False)


def initialise(model: nn.Module) -> None:
    """Convolutions N(0, 2 / (k²·filters)), biases of linear layers 0; norms and linear weights as torch has them.

    Source: He et al. 2015, arXiv 1502.01852, eq. 14 (fan out); the published torch code of Zagoruyko & Komodakis 2016
    starts its networks like this too.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
