"""Messages between a server and a worker process: framed, checked, and never waited for in the middle.

A frame is a header (magic, kind, length, CRC-32) and a payload: numbers as a struct, text, or tensors in the format of
safetensors. Nothing in it can run code.
"""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from torch import Tensor

__all__ = ["Channel", "DamagedFrame", "Frame", "Kind", "packed", "unpacked"]

_HEADER = struct.Struct("<4sBQI")
_MAGIC = b"unst"
_CHUNK = 1 << 20
_LARGEST = 1 << 34


class Kind(IntEnum):
    """What a frame says."""

    UP = 1  # a worker is ready
    TICKET = 2  # to a worker: compute this
    PUSH = 3  # from a worker: computed
    FAILED = 4  # from a worker: an exception, as text
    STOP = 5  # to a worker: end


class Frame(NamedTuple):
    """One message."""

    kind: Kind
    payload: bytes


class DamagedFrame(Exception):  # noqa: N818  (a finding about a worker, handled where it is found)
    """What came is no frame."""


class Channel:
    """One end of a socket that does not block: what cannot be sent yet is kept, what is not complete yet, too."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._in, self._out = bytearray(), bytearray()
        self.closed = False

    def fileno(self) -> int:
        """For a selector."""
        return self.socket.fileno()

    @property
    def unsent(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._out)

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send what can be sent now. An end that is closed is noticed by `receive`."""
        self._out += _HEADER.pack(_MAGIC, kind, len(payload), zlib.crc32(payload)) + payload
        self.flush()

    def flush(self) -> None:
        """Try again."""
        try:
            while self._out:
                del self._out[: self.socket.send(memoryview(bytes(self._out[:_CHUNK])))]
        except BlockingIOError:
            pass
        except OSError:
            self._out.clear()

    def receive(self) -> Iterator[Frame]:
        """The frames that are complete. ``closed`` when no more will come. Raises `DamagedFrame`."""
        try:
            while True:
                got = self.socket.recv(_CHUNK)
                self._in += got
                if not got:
                    self.closed = True
                if len(got) < _CHUNK:
                    break
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        while (frame := self._first()) is not None:
            yield frame

    def _first(self) -> Frame | None:
        if len(self._in) < _HEADER.size:
            return None
        magic, kind, length, checksum = _HEADER.unpack_from(self._in)
        if magic != _MAGIC or kind not in set(Kind) or length > _LARGEST:
            raise DamagedFrame("a message that does not begin like one")
        end = _HEADER.size + length
        if len(self._in) < end:
            return None
        payload = bytes(self._in[_HEADER.size : end])
        del self._in[:end]
        if zlib.crc32(payload) != checksum:
            raise DamagedFrame("a message whose checksum is wrong")
        return Frame(Kind(kind), payload)

    def close(self) -> None:
        """End it."""
        self.closed = True
        self.socket.close()


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
