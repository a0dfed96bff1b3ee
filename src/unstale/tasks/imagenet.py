"""ImageNet, read and decoded while it is trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from unstale import checks
from unstale.tasks.base import Task
from unstale.tasks.images import subset
from unstale.tasks.located import Download, found, located
from unstale.tasks.models import for_images
from unstale.tasks.scores import accuracy, commonest_class_share
from unstale.tasks.sources import LazyPictures, Source, as_lists
from unstale.tasks.transforms import CentreCrop, RandomResizedCropFlip, Standardise

__all__ = ["STANDARDISE", "imagenet"]

STANDARDISE = Standardise((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and standard deviation of ImageNet's channels as everybody has them: torchvision's, times 255."""

_EVALUATED = 8 / 7  # the shorter side over the crop: 256 / 224

_DOWNLOAD = Download(
    title="ImageNet",
    repository="ILSVRC/imagenet-1k",
    size="about 155 GB; its terms must be accepted there",
    otherwise="Or put the pictures from image-net.org (about 145 GB) into ROOT/train/CLASS/ and ROOT/val/CLASS/",
    test=("validation", "val"),
)


def imagenet(
    model: str = "resnet50",
    root: str | Path | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    width: int | None = None,
    augment: bool = True,
    size: int = 224,
    classes: int = 1000,
    micro_batch: int | None = None,
) -> Task:
    """1,281,167 + 50,000 pictures as (n, 3, size, size), in 1,000 classes; score: accuracy in percent.

    ``root``: a folder with Parquet files as on the hub (train-*.parquet, validation-*.parquet), which need the extra
    ``unstale[data]``, or with train/CLASS/ and val/CLASS/ of pictures. None: the cache of Hugging Face's hub. Nothing
    is downloaded. Parquet files are turned once, by ``datasets`` and in its own cache, into Arrow files of about the
    same size, which can be read by index.
    ``classes``: how many there are; other than 1,000 for a part of ImageNet, or for other pictures.
    ``augment``: a random part of each training picture, resized to ``size``, and mirrored half of the time. Without it,
    as in evaluation, the middle of a picture whose shorter side is 8/7 of ``size`` (256 for 224).
    ``train_size``, ``test_size``: take only so many, the first of ``numpy.random.default_rng(0).permutation(n)``.
    ``model``, ``width``: as for ``digits``. ``micro_batch``: as for `Task`.

    Raises: DataError for files missing or damaged, while training too; UnknownNameError for another model;
    ArgumentError for sizes.
    Source: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", 2015.
    """
    checks.truth("augment", augment)
    size, classes = checks.whole("size", size, 1), checks.whole("classes", classes, 1)
    factory = for_images(model, (3, size, size), classes, width)  # a wrong name is found before the data are read
    train, test = found(located(root, _DOWNLOAD), _DOWNLOAD, classes, mapped=True)
    shown = _taken("test_size", test_size, test)
    return Task(
        factory,
        cross_entropy,
        _taken("train_size", train_size, train),
        shown,
        accuracy,
        as_lists,
        name="imagenet",
        model_name=model,
        chance=commonest_class_share(torch.from_numpy(test.labels[shown.order])),
        score_name="accuracy",
        prepare=CentreCrop(size, round(size * _EVALUATED), STANDARDISE),
        augment=RandomResizedCropFlip(size) if augment else None,
        eval_batch_size=256,
        micro_batch=micro_batch,
    )


def _taken(name: str, size: int | None, source: Source) -> LazyPictures:
    chosen = subset(name, size, len(source.labels))
    return LazyPictures(source, np.arange(len(source.labels)) if chosen is None else chosen)
