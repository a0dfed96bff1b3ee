"""Scripts on the server's machine: a socket and a piece of shared memory each."""

from __future__ import annotations

import selectors
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from unstale.engines.live.bell import Bell
from unstale.engines.live.block import Block
from unstale.engines.live.frames import Channel, Frame, Kind
from unstale.engines.live.scripts.address import Door, same_user
from unstale.engines.live.scripts.answering import Caller, Callers, Heard
from unstale.engines.live.scripts.likeness import Likeness

__all__ = ["SocketCallers"]


class _SocketCaller(Caller):
    def __init__(self, line: Channel, selector: selectors.BaseSelector) -> None:
        self.line = line
        self._selector = selector
        selector.register(line, selectors.EVENT_READ, self)

    def open(self, likeness: Likeness) -> None:
        self._block = Block(likeness.size, likeness.kind, likeness.blanks)
        self.point = self._block.point
        self.line.hand_over(Kind.MEMORY, self._block.descriptor)
        self._block.close()

    def say(self, kind: Kind, payload: bytes = b"") -> None:
        if not self.line.closed:
            self.line.send(kind, payload)
            self.line.watch(self._selector)

    def give(self, point: Tensor, buffers: Mapping[str, Tensor]) -> None:
        self._block.put(point, buffers)

    def given(self) -> tuple[Tensor, dict[str, Tensor]]:
        return self._block.gradient, dict(self._block.buffers)

    def release(self) -> None:
        self._selector.unregister(self.line)
        self.line.close()

    def frames(self) -> Iterator[Frame]:
        """What came, after more of what is to be sent has gone."""
        self.line.flush()
        yield from self.line.receive()


class SocketCallers(Callers):
    """Those who have connected at ``path``."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.door = Door(path)
        self.address = str(path)
        self._selector = selectors.DefaultSelector()
        self._bell = Bell(self._selector)
        self._selector.register(self.door.socket, selectors.EVENT_READ, self.door)

    def wait(self, seconds: float) -> list[Heard]:
        """See `Callers`."""
        heard: list[Heard] = []
        for key, _ in self._selector.select(max(seconds, 0.0)):
            if isinstance(key.data, _SocketCaller):
                heard += self._hear_at(key.data)
            elif key.data is self.door:
                self._let_in()
            else:
                self._bell.heard()
        return heard

    def wake(self) -> None:
        """See `Callers`."""
        self._bell.ring()

    def close(self, failure: str = "") -> None:
        """See `Callers`."""
        self.door.close()
        super().close(failure)
        self._selector.close()
        self._bell.close()

    def _let_in(self) -> None:
        try:
            sock, _ = self.door.socket.accept()
        except OSError:
            return  # it has gone again, or there are no files left
        if same_user(sock):
            self._strangers.add(_SocketCaller(Channel(sock), self._selector))
        else:
            sock.close()

    def _hear_at(self, caller: _SocketCaller) -> list[Heard]:
        heard = self._hear(caller, caller.frames())
        if caller.gone:
            return heard
        if caller.line.closed:
            return heard + self._lost(caller, caller.reason)
        caller.line.watch(self._selector)
        return heard
