from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from unstale.tasks.transforms import CentreCrop, PadCropFlip, RandomResizedCropFlip, Standardise

NONE = Standardise((0.0,) * 3, (1.0,) * 3)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbered(batch: int, height: int, width: int, channels: int = 3) -> Tensor:
    """Every pixel another value, above 0."""
    return torch.arange(1, 1 + batch * channels * height * width).reshape(batch, channels, height, width)


def test_standardise() -> None:
    x = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    out = Standardise((1.0, 2.0, 3.0), (1.0, 2.0, 4.0))(x)
    assert out.dtype == torch.float32
    for channel, (mean, std) in enumerate(((1, 1), (2, 2), (3, 4))):
        assert torch.equal(out[:, channel], (x[:, channel].float() - mean) / std)


def crops(picture: Tensor, padding: int, fill: float) -> list[Tensor]:
    """Every window of the padded picture and its mirror image, by plain slicing."""
    channels, height, width = picture.shape
    large = torch.full((channels, height + 2 * padding, width + 2 * padding), fill, dtype=picture.dtype)
    large[:, padding : padding + height, padding : padding + width] = picture
    windows = [large[:, y : y + height, x : x + width] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
    return [window for cut in windows for window in (cut, cut.flip(-1))]


@pytest.mark.parametrize(("height", "width", "padding", "fill"), [(4, 5, 1, 0.0), (3, 3, 2, -7.0)])
def test_each_picture_becomes_a_window_of_its_padded_self(height: int, width: int, padding: int, fill: float) -> None:
    x = numbered(400, height, width)
    out = PadCropFlip(padding, fill)(x, rng())
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    seen = set()
    for before, after in zip(x, out, strict=True):
        hits = [k for k, window in enumerate(crops(before, padding, fill)) if torch.equal(window, after)]
        assert hits
        seen.update(hits)
    assert len(seen) >= 0.95 * 2 * (2 * padding + 1) ** 2  # all places and both directions occur


def test_crops_are_uniform() -> None:
    out = PadCropFlip(1)(numbered(1, 3, 3).repeat(9000, 1, 1, 1), rng())
    kinds, counts = torch.unique(out.flatten(1), dim=0, return_counts=True)
    assert len(kinds) == 18
    assert float(((counts - 500.0) ** 2 / 500).sum()) < 40.8  # chi-squared, 17 degrees of freedom, 99.9%


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_without_padding_half_are_mirrored(dtype: torch.dtype) -> None:
    x = torch.randint(0, 256, (1000, 1, 2, 3)).to(dtype)
    out = PadCropFlip(0)(x, rng())
    same = (out == x).flatten(1).all(1)
    mirrored = (out == x.flip(-1)).flatten(1).all(1)
    assert bool((same | mirrored).all())
    assert 400 < int((mirrored & ~same).sum()) < 600


@pytest.mark.parametrize("change", [PadCropFlip(2), RandomResizedCropFlip(5)])
def test_the_generator_decides(change: PadCropFlip | RandomResizedCropFlip) -> None:
    x = torch.rand(6, 3, 8, 9)
    assert torch.equal(change(x, rng(1)), change(x, rng(1)))
    assert not torch.equal(change(x, rng(1)), change(x, rng(2)))
    before = torch.random.get_rng_state()
    change(x, rng())
    assert torch.equal(before, torch.random.get_rng_state())


def resized(picture: Tensor, height: int, width: int) -> Tensor:
    return interpolate(picture[None].float(), (height, width), mode="bilinear", antialias=True)[0]


def test_boxes_are_inside_with_area_and_ratio_in_range() -> None:
    change, draws = RandomResizedCropFlip(), rng()
    for height, width in ((40, 60), (300, 200), (100, 100)):
        for _ in range(200):
            areas = draws.uniform(*change.scale, 10)
            ratios = np.exp(draws.uniform(math.log(3 / 4), math.log(4 / 3), 10))
            top, left, h, w = change.box(height, width, areas, ratios, draws.random(2))
            assert 0 <= top <= height - h
            assert 0 <= left <= width - w
            area, ratio = h * w / (height * width), w / h
            # Sides are whole numbers: half a pixel more or less.
            assert 0.08 * (1 - 1 / h) * (1 - 1 / w) <= area <= 1
            assert 3 / 4 * (1 - 1 / w) <= ratio <= 4 / 3 * (1 + 1 / h)


def test_a_box_by_hand() -> None:
    change = RandomResizedCropFlip()
    areas, ratios = np.array([2.0, 0.25, 0.5]), np.array([1.0, 1.0, 1.0])
    # The first does not fit; the second is half of each side: at 0.5 of the 51 places each.
    assert change.box(100, 100, areas, ratios, np.array([0.5, 0.999])) == (25, 50, 50, 50)
    assert change.box(100, 100, areas[2:], np.array([4 / 3]), np.array([0.0, 0.0])) == (0, 0, 61, 82)


@pytest.mark.parametrize(
    ("size", "box"), [((10, 100), (0, 43, 10, 13)), ((100, 10), (43, 0, 13, 10)), ((1, 1), (0, 0, 1, 1))]
)
def test_where_nothing_fits_it_is_the_middle(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    never = np.full(10, 10.0)
    assert RandomResizedCropFlip().box(*size, never, np.ones(10), np.zeros(2)) == box


def test_a_crop_of_everything_only_resizes_and_mirrors() -> None:
    change = RandomResizedCropFlip(4, scale=(1.0, 1.0), ratio=(1.0, 1.0 + 1e-9))
    pictures = [torch.randint(0, 256, (3, n, n), dtype=torch.uint8) for n in (4, 8, 3, 5) * 8]
    out = change(pictures, rng())
    mirrored = 0
    for picture, after in zip(pictures, out, strict=True):
        expected = resized(picture, 4, 4)
        mirrored += torch.equal(after, expected.flip(-1))
        assert torch.equal(after, expected) or torch.equal(after, expected.flip(-1))
    assert 8 <= mirrored <= 24


def test_a_picture_does_not_depend_on_the_sizes_of_the_others() -> None:
    change = RandomResizedCropFlip(6)
    first = torch.rand(3, 12, 10)
    one = change([first, torch.rand(3, 9, 9)], rng())[0]
    assert torch.equal(one, change([first, torch.rand(3, 2, 200)], rng())[0])


@pytest.mark.parametrize("size", [(9, 12), (12, 9), (4, 4), (3, 31)])
def test_centre_crop(size: tuple[int, int]) -> None:
    picture = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    height, width = (6 * side // min(size) for side in size)
    expected = resized(picture, height, width)
    top, left = (height - 4) // 2, (width - 4) // 2
    out = CentreCrop(4, 6, NONE)([picture, picture])
    assert out.shape == (2, 3, 4, 4)
    assert torch.equal(out[1], expected[:, top : top + 4, left : left + 4])


def test_a_batch_that_is_cropped_already_is_only_standardised() -> None:
    x = torch.rand(2, 3, 4, 4)
    assert torch.equal(CentreCrop(4, 6, Standardise((1.0,) * 3, (2.0,) * 3))(x), (x - 1) / 2)
