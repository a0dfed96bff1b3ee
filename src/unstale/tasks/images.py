"""Classification of pictures, and the picture sets that are read from disk."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from unstale import checks
from unstale.checks import whole
from unstale.errors import ArgumentError, DataError
from unstale.tasks.base import Task
from unstale.tasks.models import for_images
from unstale.tasks.scores import accuracy, commonest_class_share
from unstale.tasks.transforms import PadCropFlip

__all__ = ["classification", "fashion_mnist", "first", "moments", "read_idx", "subset"]

_DEBIAN_ROOT = "/usr/share/datasets/fashion-mnist"
_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}

_MOST_SIZES, _LARGEST, _PART = 8, 2**31, 2**20  # the largest known, EMNIST, has 3 sizes and 0.55e9 bytes

Pictures = tuple[NDArray[np.uint8], Tensor]
"""Pixels (n, H, W) and their classes (n,) int64."""


def fashion_mnist(
    model: str = "resnet8",
    root: str | Path = _DEBIAN_ROOT,
    train_size: int | None = None,
    test_size: int | None = None,
    width: int | None = None,
    augment: bool = False,
) -> Task:
    """60,000 + 10,000 pictures of clothes as (n, 1, 28, 28) float32, in 10 classes; score: accuracy in percent.

    ``root``: the folder of the four IDX files, by default where Debian's package dataset-fashion-mnist puts them.
    ``train_size``, ``test_size``: take only so many, the first of ``numpy.random.default_rng(0).permutation(n)``.
    ``model``, ``width``: "mlp" (784-256-256-10), "resnet8", "resnet20", "resnet50" or "wrnD_K", as for ``digits``.
    ``augment``: pad by 4 black pixels, crop at random, and mirror half of the training pictures.
    Pixels are standardised by the mean and the standard deviation over all pixels of the training examples taken.

    Raises: DataError for files missing or damaged; UnknownNameError for another model; ArgumentError for sizes.
    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST", arXiv 1708.07747.
    """
    root = checks.path("root", root)
    missing = [name for pair in _FILES.values() for name in pair if not (root / name).is_file()]
    if missing:
        needed = ", ".join(name for pair in _FILES.values() for name in pair)
        remedy = "install Debian's package dataset-fashion-mnist, or pass root= a folder that holds them"
        raise DataError(f"Fashion-MNIST needs {needed} in {root}; missing: {', '.join(missing)}; {remedy}")
    train = first("train_size", train_size, _labelled(root, "train"))
    test = first("test_size", test_size, _labelled(root, "test"))
    checks.truth("augment", augment)
    return classification("fashion_mnist", model, train, test, classes=10, width=width, augment=augment)


def classification(
    name: str,
    model: str,
    train: Pictures,
    test: Pictures,
    classes: int,
    width: int | None = None,
    *,
    augment: bool = False,
) -> Task:
    """The task of telling grey pictures apart: standardised pixels, cross-entropy, accuracy in percent."""
    pixels, targets = train
    values = _standardised(pixels)
    return Task(
        for_images(model, (1, *pixels.shape[1:]), classes, width),
        cross_entropy,
        (_lookup(values, pixels), targets),
        (_lookup(values, test[0]), test[1]),
        accuracy,
        name=name,
        model_name=model,
        chance=commonest_class_share(test[1]),
        score_name="accuracy",
        augment=PadCropFlip(fill=float(values[0])) if augment else None,
    )


def read_idx(path: str | Path) -> NDArray[np.uint8]:
    """The array in a gzipped IDX file of unsigned bytes, in its own shape.

    Raises: DataError, naming the file, if it is missing, truncated, not IDX, or of another length than it says.
    Source: LeCun, Cortes, Burges, "The MNIST database", section "File formats".
    """
    path = checks.path("path", path)
    try:
        with gzip.open(path) as file:
            shape = _shape(path, file)
            size = math.prod(shape)
            raw = bytearray()
            # No more than the header says, nor at once: a header may claim anything, and gzip can swell a thousandfold.
            while len(raw) <= size and (part := file.read(min(_PART, size + 1 - len(raw)))):
                raw += part
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as gzip ({error}); fetch or install it again") from error
    if len(raw) != size:
        got = "more" if len(raw) > size else len(raw)
        raise DataError(f"{path} must hold {size} bytes for its shape {shape}, got {got}")
    return np.frombuffer(raw, np.uint8).reshape(shape)


def _shape(path: Path, file: gzip.GzipFile) -> tuple[int, ...]:
    """From the file's header."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{path} must start with an IDX magic number 00 00 .. .., got {magic.hex(' ') or 'nothing'}")
    if magic[2] != 0x08:
        raise DataError(f"{path} must hold unsigned bytes (IDX type code 0x08), got type code {magic[2]:#04x}")
    count = magic[3]
    raw = file.read(4 * count)
    if not 1 <= count <= _MOST_SIZES or len(raw) < 4 * count:
        got = f"{count} sizes in {4 + len(raw)} bytes"
        raise DataError(f"{path} must name 1 to {_MOST_SIZES} sizes after the magic number, got {got}")
    shape = struct.unpack(f">{count}I", raw)
    if math.prod(size or 1 for size in shape) > _LARGEST:
        raise DataError(f"{path} must hold at most {_LARGEST:,} bytes, but claims the shape {shape}; fetch it again")
    return shape


def _labelled(root: Path, part: str) -> Pictures:
    images_path, labels_path = (root / name for name in _FILES[part])
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.shape[1:] != (28, 28) or not len(images):
        raise DataError(f"{images_path} must hold pictures of shape (n, 28, 28) with n ≥ 1, got {images.shape}")
    if labels.shape != (len(images),):
        raise DataError(f"{labels_path} must hold one label for each of {len(images)} pictures, got {labels.shape}")
    if labels.max() > 9:
        raise DataError(f"{labels_path} must hold labels from 0 to 9, got {labels.max()}")
    return images, torch.from_numpy(labels.astype(np.int64))


def subset(name: str, size: int | None, count: int) -> NDArray[np.int64] | None:
    """The first ``size`` of ``numpy.random.default_rng(0).permutation(count)``; None for all, in their own order.

    Raises: ArgumentError, under ``name``, unless there are so many.
    """
    if size is None:
        return None
    if whole(name, size, 1) > count:
        raise ArgumentError(f"{name} must be at most the {count} examples there are, got {size}; None takes all")
    return np.random.default_rng(0).permutation(count)[:size]


def moments(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation (1 where it is 0), from whole-number counts: every machine gets the same bits."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(pixels), 4096):  # bincount needs 8 bytes a pixel
        counts += np.bincount(pixels[start : start + 4096].ravel(), minlength=256)
    grey, total = np.arange(256), int(counts.sum())
    mean = int(grey @ counts) / total
    variance = int(grey**2 @ counts) / total - mean**2
    return mean, math.sqrt(variance or 1.0)


def first(name: str, size: int | None, pictures: Pictures) -> Pictures:
    """The pictures that `subset` chooses."""
    chosen = subset(name, size, len(pictures[0]))
    return pictures if chosen is None else (pictures[0][chosen], pictures[1][chosen])


def _standardised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What each of the 256 grey values becomes."""
    mean, std = moments(pixels)
    return ((np.arange(256) - mean) / std).astype(np.float32)


def _lookup(values: NDArray[np.float32], pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(values[pixels]).unsqueeze(1)
