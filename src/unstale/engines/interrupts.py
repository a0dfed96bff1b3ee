"""Ctrl-C waits for the end of a push, so that what is kept is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupts_between_pushes"]


@contextmanager
def interrupts_between_pushes() -> Iterator[Callable[[], None]]:
    """Hold back SIGINT; call what this yields where it may come through, as KeyboardInterrupt. A second one comes.

    Only where SIGINT would raise KeyboardInterrupt now: another handler, or another thread than the main one, is left
    alone.
    """
    pending = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pending
        if pending:
            raise KeyboardInterrupt
        pending = True

    def let_through() -> None:
        if pending:
            raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield let_through
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield let_through
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
