"""Memory that is freed stays with the process while a run goes on: the next push needs it again."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["keep_memory", "memory_kept"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _LARGEST = -1, -3, 2**25


def keep_memory() -> Callable[[], object]:
    """Ask glibc not to return freed memory. Answers what returns it after all; with other C libraries, nothing."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    change, trim = getattr(library, "mallopt", None), getattr(library, "malloc_trim", None)
    if change is None or trim is None:
        return lambda: None
    change(_TRIM_THRESHOLD, 16 * _LARGEST)
    change(_MMAP_THRESHOLD, _LARGEST)
    return lambda: trim(0)


@contextmanager
def memory_kept() -> Iterator[None]:
    """`keep_memory`, until the end: getting it back page by page can take half of a run's time."""
    trim = keep_memory()
    try:
        yield
    finally:
        trim()
