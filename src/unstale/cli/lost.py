"""A Ctrl-C that Python would lose comes again."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["no_interrupt_is_lost"]

_AGAIN = 0.05  # seconds, by when what was interrupted is over


@contextmanager
def no_interrupt_is_lost() -> Iterator[None]:
    """In the main thread: one that hits a finalizer, of which Python only tells, hits what comes after it, too."""
    before, main = sys.unraisablehook, threading.main_thread().ident

    def told(lost: Any) -> None:
        if main is not None and issubclass(lost.exc_type, KeyboardInterrupt):
            again = threading.Timer(_AGAIN, signal.pthread_kill, (main, signal.SIGINT))
            again.daemon = True
            again.start()
        else:
            before(lost)

    sys.unraisablehook = told
    try:
        yield
    finally:
        sys.unraisablehook = before
