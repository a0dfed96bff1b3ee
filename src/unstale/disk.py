"""What is on the disk, and not only about to be; and who is at work there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unstale.errors import StoreError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["alone_with", "sync_folder"]


@contextmanager
def alone_with(path: Path | None) -> Iterator[None]:
    """Have a file or a folder for oneself, among the processes that ask. Raises `StoreError` if somebody has it.

    The system lets go of it when this process ends, however it does. What does not exist, or None, is nobody's; where
    the file system has no locks, nobody is kept out.
    """
    if fcntl is None or path is None or not path.exists():
        yield
        return
    place = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(place)
        folder = path if path.is_dir() else path.parent
        raise StoreError(f"{folder} is in use already; wait until it is not, or choose another folder") from error
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(place)


def sync_folder(folder: Path) -> None:
    """Have a folder's entries on the disk, where the system can do that."""
    if os.name == "posix":
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
