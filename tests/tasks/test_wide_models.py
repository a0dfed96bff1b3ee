"""Wide ResNets and ResNet-50: sizes as published, and forward passes written out once more from the state dict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, batch_norm, conv2d, linear, max_pool2d, pad, relu

from unstale.errors import ArgumentError, UnknownNameError
from unstale.tasks.models import ResNet, WideResNet, for_images, resnet20, resnet50

State = dict[str, Tensor]


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def stirred(model: nn.Module) -> nn.Module:
    """With norms that are not the identity."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.3)
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def norm(x: Tensor, state: State, name: str) -> Tensor:
    mean, var, weight, bias = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return batch_norm(x, mean, var, weight, bias, training=False, eps=1e-5)


def conv(x: Tensor, state: State, name: str, stride: int = 1, padding: int = 1) -> Tensor:
    return conv2d(x, state[f"{name}.weight"], stride=stride, padding=padding)


def classified(x: Tensor, state: State) -> Tensor:
    pooled = avg_pool2d(x, x.shape[-2:]).flatten(1)
    return linear(pooled, state["classifier.weight"], state["classifier.bias"])


def resnet_reference(x: Tensor, s: State, blocks: int) -> Tensor:
    x = relu(norm(conv(x, s, "conv"), s, "bn"))
    for stage in range(3):
        for block in range(blocks):
            at = f"stages.{stage}.{block}"
            stride = 2 if stage and not block else 1
            y = relu(norm(conv(x, s, f"{at}.conv1", stride), s, f"{at}.bn1"))
            y = norm(conv(y, s, f"{at}.conv2"), s, f"{at}.bn2")
            if stride == 2:
                x = pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, x.shape[1]))
            x = relu(x + y)
    return classified(x, s)


def wide_reference(x: Tensor, s: State, blocks: int) -> Tensor:
    x = conv(x, s, "conv")
    for stage in range(3):
        for block in range(blocks):
            at = f"stages.{stage}.{block}"
            stride = 2 if stage and not block else 1
            a = relu(norm(x, s, f"{at}.bn1"))
            y = conv(a, s, f"{at}.conv1", stride)
            y = conv(relu(norm(y, s, f"{at}.bn2")), s, f"{at}.conv2")
            projected = f"{at}.shortcut.weight" in s
            x = y + (conv(a, s, f"{at}.shortcut", stride, padding=0) if projected else x)
    return classified(relu(norm(x, s, "bn")), s)


def bottleneck_reference(x: Tensor, s: State) -> Tensor:
    x = relu(norm(conv(x, s, "conv", stride=2, padding=3), s, "bn"))
    x = max_pool2d(x, kernel_size=3, stride=2, padding=1)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            at = f"stages.{stage}.{block}"
            stride = 2 if stage and not block else 1
            y = relu(norm(conv(x, s, f"{at}.conv1", padding=0), s, f"{at}.bn1"))
            y = relu(norm(conv(y, s, f"{at}.conv2", stride), s, f"{at}.bn2"))
            y = norm(conv(y, s, f"{at}.conv3", padding=0), s, f"{at}.bn3")
            if block == 0:
                x = norm(conv(x, s, f"{at}.shortcut.0", stride, padding=0), s, f"{at}.shortcut.1")
            x = relu(x + y)
    return classified(x, s)


def agree(model: nn.Module, expected: Tensor, x: Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


def test_resnet20_by_its_equations() -> None:
    model, x = stirred(ResNet(20, 4)).double(), torch.randn(2, 3, 17, 16, dtype=torch.double)
    agree(model, resnet_reference(x, model.state_dict(), 3), x)


@pytest.mark.parametrize(("depth", "widen"), [(10, 1), (16, 2)])
def test_wide_resnet_by_its_equations(depth: int, widen: int) -> None:
    model, x = stirred(WideResNet(depth, widen, width=4)).double(), torch.randn(2, 3, 16, 15, dtype=torch.double)
    agree(model, wide_reference(x, model.state_dict(), (depth - 4) // 6), x)


@pytest.mark.parametrize("size", [65, 32])
def test_resnet50_by_its_equations(size: int) -> None:
    model, x = stirred(resnet50(width=4, classes=7)).double(), torch.randn(2, 3, size, size, dtype=torch.double)
    agree(model, bottleneck_reference(x, model.state_dict()), x)


def wide_parameters(depth: int, k: int, w: int, channels: int, classes: int) -> int:
    """By hand: kernels without bias, two numbers a normalised channel, 1x1 projections where channels change."""
    blocks, before = (depth - 4) // 6, w
    total = 9 * channels * w
    for filters in (w * k, 2 * w * k, 4 * w * k):
        for _ in range(blocks):
            total += 2 * before + 9 * before * filters + 2 * filters + 9 * filters**2
            total += before * filters if before != filters else 0
            before = filters
    return total + 2 * before + before * classes + classes


def test_published_sizes() -> None:
    assert count(resnet20()) == 269_722  # 0.27M with shortcuts without parameters; projections would make it 272,474
    assert count(WideResNet(16, 4)) == wide_parameters(16, 4, 16, 3, 10) == 2_748_890
    assert count(WideResNet(16, 4, classes=100)) == wide_parameters(16, 4, 16, 3, 100) == 2_772_020
    assert count(WideResNet(28, 10, classes=10)) == 36_479_194  # 36.5M in the paper's table 4
    assert count(resnet50()) == 25_557_032


@pytest.mark.parametrize(("depth", "widen", "width"), [(10, 1, 16), (16, 1, 16), (16, 2, 3), (22, 1, 5)])
def test_small_sizes(depth: int, widen: int, width: int) -> None:
    model = WideResNet(depth, widen, width, channels=1, classes=4)
    assert count(model) == wide_parameters(depth, widen, width, 1, 4)
    weighted = [m for m in model.modules() if isinstance(m, nn.Linear) or getattr(m, "kernel_size", None) == (3, 3)]
    assert len(weighted) == depth - 2  # 6n + 1 of them 3x3, and the classifier


def shapes(model: nn.Module, stages: nn.Sequential, size: int) -> list[tuple[int, ...]]:
    seen: list[tuple[int, ...]] = []
    for stage in stages:
        stage.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    return seen


def test_stages_have_the_published_shapes() -> None:
    wide, large = WideResNet(16, 4), resnet50()
    assert shapes(wide, wide.stages, 32) == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]
    assert shapes(large, large.stages, 224) == [(256, 56, 56), (512, 28, 28), (1024, 14, 14), (2048, 7, 7)]


def test_the_stride_is_in_the_3x3_convolution() -> None:
    strided = {n for n, m in resnet50(4).named_modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)}
    stages = range(1, 4)
    assert strided == {"conv", *(f"stages.{n}.0.conv2" for n in stages), *(f"stages.{n}.0.shortcut.0" for n in stages)}


@pytest.mark.parametrize("model", [WideResNet(16, 4), resnet50()], ids=["wrn16_4", "resnet50"])
def test_weights_start_as_published(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 20_000:
            fan_out = module.out_channels * math.prod(module.kernel_size)
            assert float(module.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert not module.bias.any()
        if isinstance(module, nn.Linear):
            assert not module.bias.any()


def test_models_by_name() -> None:
    assert count(for_images("wrn16_4", (3, 32, 32), 10)()) == 2_748_890
    assert count(for_images("wrn10_1", (1, 8, 8), 10, width=4)()) == wide_parameters(10, 1, 4, 1, 10)
    assert count(for_images("resnet50", (3, 224, 224), 1000)()) == 25_557_032
    assert for_images("resnet50", (1, 8, 8), 10, width=4)().eval()(torch.randn(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("wrn", UnknownNameError, "unknown model 'wrn'"),
        ("wrn16", UnknownNameError, "did you mean .*wrn16_"),
        ("wrn16_4_2", UnknownNameError, "unknown model 'wrn16_4_2'"),
        ("wrn12_1", ArgumentError, r"depth must be 6n \+ 4, got 12; the nearest are 10 and 16"),
        ("wrn4_1", ArgumentError, "depth must be a whole number of at least 10, got 4"),
        ("wrn16_0", ArgumentError, "widen must be a whole number of at least 1, got 0"),
    ],
)
def test_refused_names(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        for_images(name, (3, 32, 32), 10)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [(WideResNet, {"depth": 16, "widen": 1, "width": 0}), (resnet50, {"width": True}), (resnet50, {"classes": 0})],
)
def test_refused_sizes(make: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="must be a whole number of at least 1"):
        make(**arguments)
