"""Handwritten digits of 8x8 pixels: the task that trains in seconds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from unstale.tasks.base import Task
from unstale.tasks.images import classification

__all__ = ["digits"]


def digits(model: str = "mlp", *, width: int | None = None) -> Task:
    """The 1,797 digits that come with scikit-learn, as (n, 1, 8, 8) float32; score: accuracy in percent.

    ``model``: "mlp" (64-256-256-10), "resnet8" (width 8), "resnet20" (16), "resnet50" (64), or "wrnD_K" (16), the wide
    ResNet of depth D and widening K; ``width`` overrides the number of filters of a ResNet's first stage, of a wide
    one's first convolution, or of units in both hidden layers.

    The split is fixed: the examples are put in the order ``numpy.random.default_rng(0).permutation(1797)``, sorted by
    label with ties kept in that order, and positions 0, 5, 10, … are the 360 test examples; the other 1,437 are for
    training. So a fifth of each class, to within one example, is for testing. Pixels are standardised by the mean and
    the standard deviation over all pixels of the training set.

    Raises: UnknownNameError for another model; ArgumentError for a width below 1.
    Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998 (its test part).
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    pixels, targets = images.reshape(-1, 8, 8).astype(np.uint8), torch.from_numpy(labels.astype(np.int64))
    train, test = _split(labels)
    return classification(
        "digits", model, (pixels[train], targets[train]), (pixels[test], targets[test]), classes=10, width=width
    )


def _split(labels: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    is_test = np.arange(len(labels)) % 5 == 0
    return by_class[~is_test], by_class[is_test]
