"""CIFAR-10 and CIFAR-100, from their binary files, Parquet files, or folders of pictures; never from pickles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from unstale import checks
from unstale.errors import DataError
from unstale.tasks.base import Task
from unstale.tasks.images import Pictures, first, moments
from unstale.tasks.located import Download, found, located
from unstale.tasks.models import for_images
from unstale.tasks.scores import accuracy, commonest_class_share
from unstale.tasks.sources import Source, decoded
from unstale.tasks.transforms import PadCropFlip, Standardise

__all__ = ["cifar10", "cifar100"]

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class _Cifar:
    """Binary files in ``folder``: ``train`` and ``test`` have the records of each by its name.

    A record begins with ``labels`` bytes, of which the last is the class.
    """

    name: str
    classes: int
    labels: int
    folder: str
    train: Mapping[str, int]
    test: Mapping[str, int]
    pickles: tuple[str, ...]
    download: Download

    @property
    def archive(self) -> str:
        """The binary files, packed."""
        return self.folder.replace("-batches-bin", "-binary") + ".tar.gz"


_TEN = _Cifar(
    name="cifar10",
    classes=10,
    labels=1,
    folder="cifar-10-batches-bin",
    train={f"data_batch_{number}.bin": 10_000 for number in range(1, 6)},
    test={"test_batch.bin": 10_000},
    pickles=("cifar-10-python.tar.gz", "cifar-10-batches-py", "data_batch_1"),
    download=Download(
        title="CIFAR-10",
        repository="uoft-cs/cifar10",
        size="about 144 MB",
        otherwise="Or unpack cifar-10-binary.tar.gz (162 MB, from www.cs.toronto.edu/~kriz/cifar.html) into ROOT",
    ),
)
_HUNDRED = _Cifar(
    name="cifar100",
    classes=100,
    labels=2,
    folder="cifar-100-binary",
    train={"train.bin": 50_000},
    test={"test.bin": 10_000},
    pickles=("cifar-100-python.tar.gz", "cifar-100-python"),
    download=Download(
        title="CIFAR-100",
        repository="uoft-cs/cifar100",
        size="about 142 MB",
        otherwise="Or unpack cifar-100-binary.tar.gz (161 MB, from www.cs.toronto.edu/~kriz/cifar.html) into ROOT",
        labels=("fine_label", "label"),
    ),
)


def cifar10(
    model: str = "resnet20",
    root: str | Path | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    width: int | None = None,
    augment: bool = True,
) -> Task:
    """50,000 + 10,000 pictures as (n, 3, 32, 32), in 10 classes; score: accuracy in percent.

    ``root``: a folder with the binary files (data_batch_1.bin … test_batch.bin, or the folder cifar-10-batches-bin), or
    with Parquet files as on the hub (train-*.parquet, test-*.parquet), or with train/CLASS/ and test/CLASS/ of
    pictures. None: the cache of Hugging Face's hub, which needs the extra ``unstale[data]``. Nothing is downloaded.
    ``train_size``, ``test_size``: take only so many, the first of ``numpy.random.default_rng(0).permutation(n)``.
    ``model``, ``width``: as for ``digits``.
    ``augment``: pad by 4 black pixels, crop at random, and mirror half of the training pictures.
    Pixels are kept as bytes. On the batch's device each channel is standardised, by its mean and standard deviation
    over the training examples taken.

    Raises: DataError for files missing, damaged or pickled; UnknownNameError for another model; ArgumentError for
    sizes.
    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    return _task(_TEN, model, root, train_size, test_size, width, augment)


def cifar100(
    model: str = "wrn16_4",
    root: str | Path | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    width: int | None = None,
    augment: bool = True,
) -> Task:
    """50,000 + 10,000 pictures as (n, 3, 32, 32), in 100 classes, the fine ones; all else as for ``cifar10``.

    ``root``: the binary files are train.bin and test.bin, or the folder cifar-100-binary that holds them.
    """
    return _task(_HUNDRED, model, root, train_size, test_size, width, augment)


def _task(
    kind: _Cifar,
    model: str,
    root: str | Path | None,
    train_size: int | None,
    test_size: int | None,
    width: int | None,
    augment: bool,
) -> Task:
    checks.truth("augment", augment)
    factory = for_images(model, SHAPE, kind.classes, width)  # a wrong name is found before the data are read
    train, test = _read(kind, root)
    pixels, targets = first("train_size", train_size, train)
    test_pixels, test_targets = first("test_size", test_size, test)
    means, stds = zip(*(moments(pixels[:, channel]) for channel in range(SHAPE[0])), strict=True)
    return Task(
        factory,
        cross_entropy,
        (torch.from_numpy(pixels), targets),
        (torch.from_numpy(test_pixels), test_targets),
        accuracy,
        name=kind.name,
        model_name=model,
        chance=commonest_class_share(test_targets),
        score_name="accuracy",
        prepare=Standardise(means, stds),
        augment=PadCropFlip() if augment else None,
    )


def _read(kind: _Cifar, root: str | Path | None) -> tuple[Pictures, Pictures]:
    if root is not None and checks.path("root", root).name in kind.pickles:
        raise _pickled(kind, Path(root))
    folder = located(root, kind.download)
    for place in (folder, folder / kind.folder):
        if any((place / name).is_file() for name in kind.train):
            return _binary(kind, place, kind.train), _binary(kind, place, kind.test)
    pickled = [name for name in kind.pickles if (folder / name).exists()]
    if pickled and not [*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]:
        raise _pickled(kind, folder / pickled[0])
    train, test = found(folder, kind.download, kind.classes, mapped=False)
    return _pictures(train), _pictures(test)


def _pickled(kind: _Cifar, path: Path) -> DataError:
    return DataError(
        f"{path} holds Python pickles, which can run any code and are never opened; unpack {kind.archive} instead, or "
        f"take the Parquet files: hf download --repo-type dataset {kind.download.repository} ({kind.download.size})"
    )


def _binary(kind: _Cifar, folder: Path, counts: Mapping[str, int]) -> Pictures:
    """Records of the label bytes and 3,072 pixels, red, green and blue planes of rows.

    Source: Krizhevsky, "The CIFAR-10 dataset", section "Binary version".
    """
    record = kind.labels + _PIXELS
    parts: list[NDArray[np.uint8]] = []
    for name, count in counts.items():
        path = folder / name
        try:
            size = path.stat().st_size
            raw = path.read_bytes() if size == count * record else b""
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror or error}); unpack {kind.archive} again"
            ) from error
        if len(raw) != count * record:
            raise DataError(
                f"{path} must hold {count:,} records of {record:,} bytes, got {size:,} bytes, which are "
                f"{size / record:,.7g} records; unpack {kind.archive} again"
            )
        parts.append(np.frombuffer(raw, np.uint8).reshape(count, record))
        if (worst := int(parts[-1][:, kind.labels - 1].max())) >= kind.classes:
            raise DataError(f"{path} must hold labels from 0 to {kind.classes - 1}, got {worst}")
    records = np.concatenate(parts)
    targets = torch.from_numpy(records[:, kind.labels - 1].astype(np.int64))
    return np.ascontiguousarray(records[:, kind.labels :]).reshape(-1, *SHAPE), targets


def _pictures(source: Source) -> Pictures:
    pixels = np.empty((len(source.labels), *SHAPE), np.uint8)
    for start in range(0, len(pixels), 1000):
        indices = list(range(start, min(start + 1000, len(pixels))))
        for index, raw in zip(indices, source.raws(indices), strict=True):
            picture = decoded(raw, source.where(index))
            if tuple(picture.shape) != SHAPE:
                got = f"{picture.shape[2]} x {picture.shape[1]}"
                raise DataError(f"{source.where(index)} must be a picture of 32 x 32 pixels, got {got}")
            pixels[index] = picture.numpy()
    return pixels, torch.from_numpy(source.labels)
