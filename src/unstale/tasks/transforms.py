"""Changes of batches of pictures, as tensor operations on the batch's device; frozen records, so that a run names them.

Random crops and flips take their numbers from the generator that they are given: the same one, the same crops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, pad

__all__ = ["CentreCrop", "PadCropFlip", "RandomResizedCropFlip", "Standardise"]

TRIES = 10


@dataclass(frozen=True)
class Standardise:
    """(B, C, H, W) of any dtype → float32, less the mean of each channel and over its standard deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pictures: Tensor) -> Tensor:
        """The same shape."""
        mean, std = (torch.tensor(v, device=pictures.device).view(-1, 1, 1) for v in (self.mean, self.std))
        return (pictures.float() - mean) / std


@dataclass(frozen=True)
class PadCropFlip:
    """``padding`` pixels of value ``fill`` on each side, a random crop of the old size, mirrored or not.

    Source: He, Zhang, Ren, Sun, CVPR 2016, section 4.2; black padding, as torchvision's RandomCrop has it.
    """

    padding: int = 4
    fill: float = 0.0

    def __call__(self, pictures: Tensor, random: np.random.Generator) -> Tensor:
        """(B, C, H, W) of any dtype → the same shape, dtype and values."""
        batch, _, height, width = pictures.shape
        corner = random.integers(0, 2 * self.padding + 1, (2, batch, 1))
        mirrored = random.random((batch, 1)) < 0.5
        across = np.arange(width)
        rows = corner[0] + np.arange(height)
        columns = corner[1] + np.where(mirrored, across[::-1], across)
        padded = pad(pictures, (self.padding,) * 4, value=self.fill)
        b, y, x = (torch.from_numpy(index).to(pictures.device) for index in (np.arange(batch), rows, columns))
        return padded[b[:, None, None], :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class RandomResizedCropFlip:
    """A random part of each picture, resized to ``size`` x ``size``, mirrored or not.

    The part has ``scale`` of the picture's area and ``ratio`` of width to height, where one of ten draws fits into the
    picture; else it is the largest in the middle of the nearest ratio. Resized bilinearly with antialiasing.
    Source: Szegedy et al. 2015, section 6, in the form of torchvision's RandomResizedCrop.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __call__(self, pictures: Sequence[Tensor] | Tensor, random: np.random.Generator) -> Tensor:
        """Pictures (C, H, W), of sizes that may differ, → (B, C, size, size) float32."""
        count = len(pictures)
        # All numbers are drawn whether they are needed or not: a picture's own do not depend on the others.
        areas = random.uniform(*self.scale, (count, TRIES))
        ratios = np.exp(random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1]), (count, TRIES)))
        places, mirrored = random.random((count, 2)), random.random(count) < 0.5
        parts = []
        for picture, *numbers in zip(pictures, areas, ratios, places, strict=True):
            top, left, height, width = self.box(picture.shape[-2], picture.shape[-1], *numbers)
            parts.append(_resized(picture[:, top : top + height, left : left + width], self.size, self.size))
        stacked = torch.stack(parts)
        flips = torch.from_numpy(mirrored).to(stacked.device)
        return torch.where(flips[:, None, None, None], stacked.flip(-1), stacked)

    def box(
        self,
        height: int,
        width: int,
        areas: NDArray[np.float64],
        ratios: NDArray[np.float64],
        place: NDArray[np.float64],
    ) -> tuple[int, int, int, int]:
        """(top, left, height, width) of the part; ``areas`` and ``ratios`` are the draws, ``place`` is in [0, 1)²."""
        pixels = areas * height * width
        widths, heights = np.rint(np.sqrt(pixels * ratios)), np.rint(np.sqrt(pixels / ratios))
        fits = np.flatnonzero((widths >= 1) & (heights >= 1) & (widths <= width) & (heights <= height))
        if len(fits):
            h, w = int(heights[fits[0]]), int(widths[fits[0]])
            return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
        nearest = min(max(width / height, self.ratio[0]), self.ratio[1])
        h = min(height, max(1, round(width / nearest)))
        w = min(width, max(1, round(height * nearest)))
        return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class CentreCrop:
    """What is evaluated: the shorter side resized to ``resize``, the middle ``size`` x ``size`` of it; standardised.

    A batch that is one tensor has been cropped already, and is only standardised.
    """

    size: int
    resize: int
    standardise: Standardise

    def __call__(self, pictures: Sequence[Tensor] | Tensor) -> Tensor:
        """Pictures (C, H, W), of sizes that may differ, → (B, C, size, size) float32."""
        if not isinstance(pictures, Tensor):
            pictures = torch.stack([self._middle(picture) for picture in pictures])
        return self.standardise(pictures)

    def _middle(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        short = min(height, width)
        height, width = self.resize * height // short, self.resize * width // short
        top, left = (height - self.size) // 2, (width - self.size) // 2
        return _resized(picture, height, width)[:, top : top + self.size, left : left + self.size]


def _resized(picture: Tensor, height: int, width: int) -> Tensor:
    """(C, H, W) → (C, height, width) float32."""
    whole = picture[None].float()
    return interpolate(whole, (height, width), mode="bilinear", align_corners=False, antialias=True)[0]
