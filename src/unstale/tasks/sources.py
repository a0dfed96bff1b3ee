"""Labelled pictures that are read from disk when they are needed.

Nothing that is read can run code: pictures are decoded by Pillow, from four formats only.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unstale.errors import DataError

__all__ = ["LazyPictures", "Source", "as_lists", "decoded", "digest"]

FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # others can call programs, as Pillow's reader of EPS does
LARGEST = 2**26  # pixels: a few bytes can claim to be a picture that fills the memory


class Source(Protocol):
    """Encoded pictures and their classes. ``labels``: (n,) int64, all of them within the classes that there are."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The classes."""

    @property
    def fingerprint(self) -> str:
        """Of labels and the files' names and sizes: reading every byte would take too long."""

    def where(self, index: int) -> str:
        """What to call picture ``index`` in a message."""

    def raws(self, indices: Sequence[int]) -> list[bytes | None]:
        """The encoded pictures ``indices``."""


@dataclass(frozen=True, eq=False)
class LazyPictures:
    """A dataset of (picture, label), decoded when they are asked for; ``order`` (n,) says which, and in what order."""

    source: Source
    order: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Tensor, int]]:
        chosen = self.order[indices].tolist()
        raws = self.source.raws(chosen)
        with ThreadPoolExecutor() as pool:  # decoders let go of the interpreter
            pictures = pool.map(decoded, raws, map(self.source.where, chosen))
            return list(zip(pictures, self.source.labels[chosen].tolist(), strict=True))

    @cached_property
    def fingerprint(self) -> str:
        """Of the source's, and of the order."""
        return digest(self.order, [(self.source.fingerprint, 0)])


def as_lists(items: list[tuple[Tensor, int]]) -> tuple[list[Tensor], Tensor]:
    """Collates pictures whose sizes differ."""
    return [picture for picture, _ in items], torch.tensor([label for _, label in items])


def decoded(raw: bytes | None, where: str) -> Tensor:
    """(3, H, W) uint8, red, green and blue. Raises `DataError`, naming where it is, if that is no picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw or b""), formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"{image.width} x {image.height} pixels; the most are {LARGEST:,}")
            pixels = np.array(image.convert("RGB"))
    except Exception as error:  # each decoder has its own
        reason = "it is empty" if not raw else str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{where} cannot be decoded as a picture ({reason}); fetch it again") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def digest(labels: NDArray[np.int64], files: Iterable[tuple[str, int]]) -> str:
    """The first 16 hex digits of a SHA-256 over labels, names and sizes."""
    sha = hashlib.sha256(labels.tobytes())
    for name, size in files:
        sha.update(f"{name} {size};".encode())
    return sha.hexdigest()[:16]
