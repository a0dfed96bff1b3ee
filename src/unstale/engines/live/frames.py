"""Messages between a server and a worker: framed, checked, and never waited for in the middle.

A frame is a header (magic, kind, length, CRC-32 of the payload, and of these four) and a payload: numbers as a struct,
text, or tensors in the format of safetensors. Nothing in it can run code.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

__all__ = ["Channel", "DamagedFrame", "Frame", "Kind", "packed", "unpacked"]

_HEADER, _CHECK = struct.Struct("<4sBQI"), struct.Struct("<I")
_BEGINS = _HEADER.size + _CHECK.size  # bytes before the payload
_MAGIC = b"unst"
_CHUNK = 1 << 16  # bytes; what is read is put into as many each time, and a MiB would be taken from the system
_LARGEST = 1 << 34


class Kind(IntEnum):
    """What a frame says."""

    UP = 1  # a worker is ready
    TICKET = 2  # to a worker: compute this
    PUSH = 3  # from a worker: computed
    FAILED = 4  # an exception, as text
    STOP = 5  # to a worker: end
    # With scripts that connect:
    HELLO = 6  # from one: its model is like this
    MEMORY = 7  # to it: of which both sides have a view from now on
    WELCOME = 8  # to it: it is taken
    PULL = 9  # from it: a ticket, please
    RECEIPT = 10  # to it: what became of its push
    LOAD = 11  # from it: θ, please; and to it: there it is
    LEAVE = 12  # from it: it goes in peace


_KINDS = frozenset(Kind)


class Frame(NamedTuple):
    """One message."""

    kind: Kind
    payload: bytes


class DamagedFrame(Exception):  # noqa: N818  (a finding about a worker, handled where it is found)
    """What came is no frame."""


class Channel:
    """One end of a socket that does not block: what cannot be sent yet is kept, what is not complete yet, too.

    ``files``: how many open files are taken at most, if they come with what is received; they are in ``descriptors``.
    """

    def __init__(self, sock: socket.socket, files: int = 0) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.descriptors: list[int] = []
        self._files = files
        self._in, self._out = bytearray(), bytearray()
        self.closed = False

    def fileno(self) -> int:
        """For a selector."""
        return self.socket.fileno()

    @property
    def unsent(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._out)

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Have a selector, that it is registered with, look for what comes, and for room where something waits."""
        key = selector.get_key(self)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._out else 0)
        if key.events != events:
            selector.modify(self, events, key.data)

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send what can be sent now. An end that is closed is noticed by `receive`."""
        self._out += _framed(kind, payload)
        self.flush()

    def hand_over(self, kind: Kind, descriptor: int) -> None:
        """Send an open file, as a frame of its own."""
        assert not self._out, "it goes with a byte, so there must be room for one"
        try:
            socket.send_fds(self.socket, [_framed(kind)], [descriptor])
        except OSError:
            self.closed = True

    def flush(self) -> None:
        """Try again."""
        try:
            while self._out:
                with memoryview(self._out) as whole, whole[:_CHUNK] as part:
                    sent = self.socket.send(part)
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()

    def receive(self) -> Iterator[Frame]:
        """The frames that are complete. ``closed`` when no more will come. Raises `DamagedFrame`."""
        self._read()
        while (frame := self._first()) is not None:
            yield frame

    def next(self, eager: float = 0.0) -> Frame | None:
        """The next frame, when it comes; None if none will. Raises `DamagedFrame`.

        ``eager``: for so many seconds it stays awake and looks, as a core that fell asleep takes its time to wake.
        """
        until = time.monotonic() + eager
        while (frame := self._first()) is None and not self.closed:
            awaited = select.poll()
            awaited.register(self, select.POLLIN | (select.POLLOUT if self.unsent else 0))
            while not awaited.poll(0) and time.monotonic() < until:
                os.sched_yield()  # to whoever else is on this core
            awaited.poll()
            self.flush()
            self._read()
        return frame

    def _read(self) -> None:
        try:
            while True:
                got = self._received()
                self._in += got
                if not got:
                    self.closed = True
                if len(got) < _CHUNK:
                    break
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True

    def _received(self) -> bytes:
        if len(self.descriptors) >= self._files:
            return self.socket.recv(_CHUNK)
        got, descriptors, _, _ = socket.recv_fds(self.socket, _CHUNK, self._files - len(self.descriptors))
        self.descriptors += descriptors
        return got

    def _first(self) -> Frame | None:
        if len(self._in) < _BEGINS:
            return None
        magic, kind, length, checksum = _HEADER.unpack_from(self._in)
        (check,) = _CHECK.unpack_from(self._in, _HEADER.size)
        whole = check == zlib.crc32(self._in[: _HEADER.size])  # or a wrong length would be waited for
        if not whole or magic != _MAGIC or kind not in _KINDS or length > _LARGEST:
            raise DamagedFrame("a message that does not begin like one")
        end = _BEGINS + length
        if len(self._in) < end:
            return None
        payload = bytes(self._in[_BEGINS:end])
        del self._in[:end]
        if zlib.crc32(payload) != checksum:
            raise DamagedFrame("a message whose checksum is wrong")
        return Frame(Kind(kind), payload)

    def close(self) -> None:
        """End it."""
        self.closed = True
        self.socket.close()
        while self.descriptors:
            os.close(self.descriptors.pop())


def _framed(kind: Kind, payload: bytes = b"") -> bytes:
    header = _HEADER.pack(_MAGIC, kind, len(payload), zlib.crc32(payload))
    return header + _CHECK.pack(zlib.crc32(header)) + payload


def packed(tensors: Sequence[Tensor]) -> bytes:
    """Tensors as bytes; none as none."""
    if not tensors:
        return b""
    import safetensors.torch

    return safetensors.torch.save({f"{n:06d}": value.cpu().contiguous() for n, value in enumerate(tensors)})


def unpacked(payload: bytes) -> tuple[Tensor, ...]:
    """What `packed` packed. Raises `DamagedFrame`."""
    if not payload:
        return ()
    import safetensors.torch

    try:
        found = safetensors.torch.load(payload)
    except Exception as error:  # safetensors has an error of its own
        raise DamagedFrame("tensors that cannot be read") from error
    return tuple(found[name] for name in sorted(found))
