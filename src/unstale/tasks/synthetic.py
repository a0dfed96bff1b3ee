"""Pictures of noise in the shape of real ones: to see that a model of full size runs, how fast, and in what memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from unstale.checks import seed as checked_seed
from unstale.checks import whole
from unstale.errors import ArgumentError
from unstale.tasks.base import Task
from unstale.tasks.models import for_images
from unstale.tasks.scores import accuracy
from unstale.tasks.transforms import Standardise

__all__ = ["synthetic_images"]

_STREAM = 0x501E
_UNIFORM = 127.5, math.sqrt((256**2 - 1) / 12)  # of a byte


@dataclass(frozen=True)
class Noise:
    """``size`` pictures of uniform bytes, each drawn from (seed, part, its index) when it is asked for."""

    size: int
    shape: tuple[int, ...]
    classes: int
    seed: int
    part: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not 0 <= index < self.size:
            raise IndexError(index)
        random = np.random.default_rng([self.seed, self.part, index, _STREAM])
        picture = np.frombuffer(random.bytes(math.prod(self.shape)), np.uint8).reshape(self.shape)
        return torch.tensor(picture), int(random.integers(self.classes))

    @property
    def fingerprint(self) -> str:
        """What it is drawn from."""
        return repr(self)


def synthetic_images(
    model: str = "resnet50",
    shape: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    n: int = 1_281_167,
    test_size: int = 256,
    width: int | None = None,
    seed: int = 0,
    micro_batch: int | None = None,
) -> Task:
    """``n`` + ``test_size`` pictures of noise, of ``shape`` (channels, height, width), with random labels.

    Made when they are asked for: never more of them than a batch. By default as many, as large, and of as many classes
    as ImageNet's. Score: accuracy in percent; chance is left unknown, for no run should count as diverged by it.
    ``model``, ``width``: as for ``digits``. ``micro_batch``: as for `Task`.

    Raises: UnknownNameError for another model; ArgumentError for sizes below 1.
    """
    if not isinstance(shape, tuple | list) or len(shape) != 3:
        raise ArgumentError(f"shape must be (channels, height, width), got {shape!r}; ImageNet's is (3, 224, 224)")
    channels, height, breadth = (whole("shape", side, 1) for side in shape)
    shape, classes, seed = (channels, height, breadth), whole("classes", classes, 1), checked_seed(seed)
    sizes = whole("n", n, 1), whole("test_size", test_size, 1)
    train, test = (Noise(size, shape, classes, seed, part) for part, size in enumerate(sizes))
    mean, std = _UNIFORM
    return Task(
        for_images(model, shape, classes, width),
        cross_entropy,
        train,
        test,
        accuracy,
        name="synthetic_images",
        model_name=model,
        score_name="accuracy",
        prepare=Standardise((mean,) * channels, (std,) * channels),
        eval_batch_size=256,
        micro_batch=micro_batch,
    )
