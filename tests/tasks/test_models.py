from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from unstale.errors import ArgumentError, UnknownNameError
from unstale.tasks.models import MLP, ResNet, for_images, resnet8, resnet20
from unstale.tasks.models.resnet import Block


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def resnet_parameters(depth: int, w: int, channels: int, classes: int) -> int:
    """By hand: 3x3 kernels without bias, two numbers per normalised channel, a classifier with bias, nothing else."""
    n = (depth - 2) // 6
    kernels = 9 * channels * w + 2 * n * 9 * w**2
    norms = 2 * w + 2 * n * 2 * w
    for out in (2 * w, 4 * w):
        kernels += 9 * (out // 2) * out + (2 * n - 1) * 9 * out**2
        norms += 2 * n * 2 * out
    return kernels + norms + 4 * w * classes + classes


@pytest.mark.parametrize("depth", [8, 14, 20, 32])
@pytest.mark.parametrize(("width", "channels", "classes"), [(4, 1, 3), (5, 3, 10)])
def test_resnet_parameters(depth: int, width: int, channels: int, classes: int) -> None:
    model = ResNet(depth, width, channels, classes)
    assert count(model) == resnet_parameters(depth, width, channels, classes)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == depth


def test_resnet20_has_the_published_size() -> None:
    assert count(resnet20()) == resnet_parameters(20, 16, 3, 10) == 269_722
    assert count(resnet8(8, 1)) == resnet_parameters(8, 8, 1, 10)


@pytest.mark.parametrize("size", [(1, 1), (7, 8), (8, 8), (28, 28), (32, 32)])
def test_resnet_takes_any_size(size: tuple[int, int]) -> None:
    assert resnet8(3, 1, 5).eval()(torch.randn(2, 1, *size)).shape == (2, 5)


def test_shortcut_takes_every_second_pixel_and_adds_zero_channels() -> None:
    x = torch.randn(2, 4, 5, 5)
    y = Block(4, 8, stride=2).shortcut(x)
    assert y.shape == (2, 8, 3, 3)
    assert torch.equal(y[:, :4], x[:, :, ::2, ::2])
    assert not y[:, 4:].any()
    assert torch.equal(Block(4, 4, stride=1).shortcut(x), x)


def test_a_block_without_residual_is_its_shortcut() -> None:
    block = Block(4, 8, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 4, 6, 6)
    assert torch.equal(block(x), block.shortcut(x))


def test_stages_halve_the_picture_and_double_the_filters() -> None:
    shapes = []
    model = ResNet(8, 4, 3).eval()
    for stage in model.stages:
        stage.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    model(torch.randn(1, 3, 32, 32))
    assert shapes == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]


def test_resnet_initialisation() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ResNet(20)
    last = [module for module in model.modules() if isinstance(module, nn.Conv2d)][-1]
    assert float(last.weight.detach().std()) == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.02)
    assert not model.classifier.bias.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 18}, "depth must be 6n \\+ 2, got 18; the nearest are 14 and 20"),
        ({"depth": 2}, "depth must be a whole number of at least 8, got 2"),
        ({"depth": 8.0}, "depth must be a whole number"),
        ({"depth": 8, "width": 0}, "width must be a whole number of at least 1"),
        ({"depth": 8, "channels": 0}, "channels must be a whole number of at least 1"),
        ({"depth": 8, "classes": True}, "classes must be a whole number"),
    ],
)
def test_resnet_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        ResNet(**arguments)


def test_mlp() -> None:
    model = MLP(6, hidden=(5, 4), classes=3)
    assert count(model) == 6 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3
    x = torch.randn(2, 1, 2, 3)
    first, second, last = (m for m in model.modules() if isinstance(m, nn.Linear))
    assert torch.equal(model(x), last(second(first(x.flatten(1)).relu()).relu()))
    assert count(MLP(64)) == 85_002
    assert count(MLP(6, hidden=())) == 70
    with pytest.raises(ArgumentError, match="hidden must be a whole number of at least 1, got 0"):
        MLP(6, hidden=(0,))


def test_models_by_name() -> None:
    assert count(for_images("mlp", (1, 8, 8), 10)()) == 85_002
    assert count(for_images("mlp", (1, 2, 2), 10, width=3)()) == count(MLP(4, (3, 3)))
    assert count(for_images("resnet8", (1, 8, 8), 10)()) == resnet_parameters(8, 8, 1, 10)
    assert count(for_images("resnet20", (3, 8, 8), 10)()) == 269_722
    assert count(for_images("resnet20", (3, 8, 8), 10, width=4)()) == resnet_parameters(20, 4, 3, 10)
    with pytest.raises(UnknownNameError, match="unknown model 'resnet9'; did you mean resnet8"):
        for_images("resnet9", (1, 8, 8), 10)
    with pytest.raises(ArgumentError, match="width must be a whole number of at least 1, got 0"):
        for_images("mlp", (1, 8, 8), 10, width=0)
