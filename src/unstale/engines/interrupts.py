"""Ctrl-C waits for the end of what must not be left half done: a push, a write to a database, the care of processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupts_held"]


@contextmanager
def interrupts_held() -> Iterator[Callable[[], None]]:
    """Hold back SIGINT; call what this yields where it may come through, as KeyboardInterrupt; it does at the end.

    A second one comes through at once. Inside another `interrupts_held`, it is that one's to let it through in the end.
    Only where SIGINT would raise KeyboardInterrupt now: another handler, or another thread than the main one, is left
    alone.
    """
    before = signal.getsignal(signal.SIGINT)
    if isinstance(before, _Held):
        yield before.let_through
        return
    held = _Held()
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield held.let_through
        return
    signal.signal(signal.SIGINT, held)
    try:
        yield held.let_through
        held.let_through()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Held:
    """What handles SIGINT meanwhile."""

    def __init__(self) -> None:
        self._pending = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.let_through()
        self._pending = True

    def let_through(self) -> None:
        if self._pending:
            raise KeyboardInterrupt
