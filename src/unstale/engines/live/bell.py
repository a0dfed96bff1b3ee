"""What ends a selector's wait from another thread."""

from __future__ import annotations

import contextlib
import selectors
import socket

__all__ = ["Bell"]


class Bell:
    """Registered with a selector, with None for its data. Ringing may be done by any thread."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)
        selector.register(self._here, selectors.EVENT_READ)

    def ring(self) -> None:
        """Also when nobody waits, or will any more."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._there.send(b"!")

    def heard(self) -> None:
        """It rings no longer."""
        with contextlib.suppress(BlockingIOError):
            self._here.recv(4096)

    def close(self) -> None:
        """For good."""
        self._here.close()
        self._there.close()
