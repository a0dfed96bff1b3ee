"""Pictures in a folder with a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unstale.errors import DataError
from unstale.tasks.sources import digest

__all__ = ["Folder"]

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


@dataclass(frozen=True, eq=False)
class Folder:
    """A folder with a folder for each class, whose names in their order are the labels 0, 1, 2, …."""

    files: tuple[Path, ...]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    @classmethod
    def open(cls, root: Path, classes: int) -> Folder:
        """Raises `DataError`, naming the folder, unless it holds so many folders of pictures."""
        try:
            folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
            listed = [sorted(_pictures(folder)) for folder in folders]
        except OSError as error:
            raise DataError(f"{error.filename or root} cannot be read ({error.strerror or error})") from error
        if len(folders) != classes:
            got = f"{len(folders)} ({', '.join(f.name for f in folders[:3])}{', …' if len(folders) > 3 else ''})"
            raise DataError(f"{root} must hold {classes} folders, one a class, got {got if folders else 'none'}")
        for folder, files in zip(folders, listed, strict=True):
            if not files:
                raise DataError(f"{folder} must hold pictures ({', '.join(sorted(SUFFIXES))}), got none")
        labels = np.repeat(np.arange(classes, dtype=np.int64), [len(files) for files in listed])
        return cls(tuple(p for files in listed for p in files), labels, tuple(f.name for f in folders))

    @cached_property
    def fingerprint(self) -> str:
        """See `Source`."""
        try:
            return digest(self.labels, ((f"{p.parent.name}/{p.name}", p.stat().st_size) for p in self.files))
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error

    def where(self, index: int) -> str:
        """The file."""
        return str(self.files[index])

    def raws(self, indices: Sequence[int]) -> list[bytes | None]:
        """See `Source`."""
        try:
            return [self.files[index].read_bytes() for index in indices]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error


def _pictures(folder: Path) -> Iterator[Path]:
    """Raises `DataError`, naming it, for what is called a picture and is no file: a link to nothing, a pipe."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if Path(entry.name).suffix.lower() in SUFFIXES:
                if not entry.is_file():  # asks the system only about links
                    what = "a link to what is no file" if entry.is_symlink() else "none"
                    raise DataError(f"{entry.path} must be a file, but is {what}; mend or remove it")
                yield Path(entry.path)
