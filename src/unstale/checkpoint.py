"""Checkpoints: a run on disk, written whole or not at all, checked when it is read, and read without running code.

Each is a folder named by its number, which holds JSON, safetensors, and a manifest with their sizes and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from unstale import checks
from unstale.disk import sync_folder
from unstale.errors import ArgumentError, StoreError
from unstale.packed import pack, tensor_bytes, unpack

__all__ = ["Checkpoints", "latest", "numbers", "tidy", "write"]

MANIFEST, STATE, TENSORS = "manifest.json", "state.json", "tensors.safetensors"
_FORMAT = 1
_UNFINISHED = ".writing-"
_DIGITS = 10
_CHUNK = 2**22  # bytes


@dataclass(frozen=True)
class Checkpoints:
    """Where a run keeps what it needs to go on after a crash, and how often it writes that.

    folder: for this run alone; another one that is to write there meanwhile is refused. pushes, seconds: written when
        so many pushes were made, or so many seconds have passed, since the last time; None: not for that reason.
        Seconds become more where writing would take a twentieth of the time. keep: so many of the latest stay.

    Raises: ArgumentError for numbers that are too small, or where neither pushes nor seconds are given.
    """

    folder: str | Path
    pushes: int | None = None
    seconds: float | None = 60.0
    keep: int = 3

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | Path) or not str(self.folder):
            raise ArgumentError(f"folder must be a path, got {self.folder!r}; pass for example 'runs/x/checkpoints'")
        object.__setattr__(self, "folder", Path(self.folder))
        if self.pushes is not None:
            object.__setattr__(self, "pushes", checks.whole("pushes", self.pushes, 1))
        if self.seconds is not None:
            object.__setattr__(self, "seconds", checks.positive("seconds", self.seconds))
        if self.pushes is None and self.seconds is None:
            raise ArgumentError("pushes or seconds must be given, got None for both; pass for example seconds=60")
        object.__setattr__(self, "keep", checks.whole("keep", self.keep, 1))

    def due(self, pushes: int, seconds: float, cost: float = 0.0) -> bool:
        """Whether to write now: so many pushes and seconds after the last one, which took ``cost`` seconds to write."""
        if self.pushes is not None and pushes >= self.pushes:
            return True
        return self.seconds is not None and seconds >= max(self.seconds, 20 * cost)


def write(folder: Path, number: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write ``state`` (see `unstale.packed.pack`) as checkpoint ``number``; of those before it, ``keep`` - 1 stay.

    Those with a higher number are of a future that did not happen, and go too. Raises `StoreError` if it cannot be
    written; then the old ones are as they were.
    """
    document, tensors = pack(state)
    new = folder / f"{_UNFINISHED}{number}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(folder)
        new.mkdir()
        text = json.dumps(document, allow_nan=False).encode()
        files = {
            TENSORS: _written(new / TENSORS, lambda write: tensor_bytes(tensors, write)),
            STATE: _written(new / STATE, lambda write: write(text)),
        }
        manifest = json.dumps({"format": _FORMAT, "number": number, "files": files}, indent=1).encode()
        _written(new / MANIFEST, lambda write: write(manifest))
        sync_folder(new)
        path = _path(folder, number)
        if path.exists():
            shutil.rmtree(path)
        new.rename(path)
        for place in (folder, folder.parent):
            sync_folder(place)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"cannot write a checkpoint to {folder}: {reason}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    _remove(folder, {*numbers(folder)} - {*_staying(folder, number, keep)})
    return path


def tidy(folder: Path, number: int | None, keep: int) -> None:
    """Remove what a `write` that was killed has left; ``number``: of the newest checkpoint that is whole, if any is.

    Those with a higher number are damaged, and stay until the next one is written.
    """
    _remove_unfinished(folder)
    if number is not None:
        _remove(folder, {known for known in numbers(folder) if known < number} - {*_staying(folder, number, keep)})


def _staying(folder: Path, number: int, keep: int) -> list[int]:
    return [known for known in numbers(folder) if known <= number][-keep:]


def _remove(folder: Path, gone: Iterable[int]) -> None:
    for number in sorted(gone):
        shutil.rmtree(_path(folder, number), ignore_errors=True)


def _remove_unfinished(folder: Path) -> None:
    for left in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)


def latest(folder: Path) -> tuple[int, Any]:
    """Number and state of the newest checkpoint that is whole; a warning names each newer one that is damaged.

    Raises `StoreError` if there is none.
    """
    known = numbers(folder)
    for number in reversed(known):
        path = _path(folder, number)
        try:
            return number, _read(path)
        except Exception as error:  # whatever is wrong with it
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            warnings.warn(f"checkpoint {path} is damaged ({reason}); it is not used", RuntimeWarning, stacklevel=2)
    if known:
        raise StoreError(f"all checkpoints in {folder} are damaged; start the run again, in another folder")
    raise StoreError(f"{folder} holds no checkpoint; pass the folder that a run's checkpoints were written to")


def numbers(folder: Path) -> list[int]:
    """Of the checkpoints in ``folder``, damaged or not, from the oldest to the newest."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if len(p.name) >= _DIGITS and p.name.isdecimal())


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:0{_DIGITS}}"


def _read(path: Path) -> Any:
    import safetensors

    manifest = json.loads((path / MANIFEST).read_bytes())
    if manifest["format"] != _FORMAT:
        raise ValueError(f"its format is {manifest['format']!r}, and this version of unstale reads {_FORMAT}")
    for name in (STATE, TENSORS):
        with (path / name).open("rb") as file:
            if _digest(file) != manifest["files"][name]:
                raise ValueError(f"{name} is not what was written")
    document = json.loads((path / STATE).read_bytes())
    with safetensors.safe_open(path / TENSORS, "pt") as tensors:
        # Copies: they begin where torch likes tensors to begin, and the file may go.
        return unpack(document, lambda name: _copied(tensors.get_tensor(name)))


def _copied(value: Tensor) -> Tensor:
    return value.clone()


def _written(path: Path, produce: Callable[[Callable[[Any], object]], object]) -> dict[str, Any]:
    """Have a file written, down to the disk; answers what the manifest says of it."""
    digest = hashlib.sha256()
    with path.open("wb") as file:

        def write(piece: Any) -> None:
            digest.update(piece)
            file.write(piece)

        produce(write)
        file.flush()
        os.fsync(file.fileno())
        return {"bytes": file.tell(), "sha256": digest.hexdigest()}


def _digest(file: BinaryIO) -> dict[str, Any]:
    digest = hashlib.sha256()
    while piece := file.read(_CHUNK):
        digest.update(piece)
    return {"bytes": file.tell(), "sha256": digest.hexdigest()}
