"""What a worker may send instead of its push: bytes that are damaged on their way, or make no sense.

Workers import this, so it imports little.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import torch

from unstale.engines.live.frames import Channel, Kind, _framed, packed
from unstale.engines.live.protocol import PROCESS

Change = Callable[[bytes], bytes]  # from the payload of a push to the bytes that are sent for it
MAGIC, KIND, LENGTH, CHECKSUM, HEADER, PAYLOAD = 0, 4, 5, 13, 17, 21  # where each begins in a frame


class Damages:
    """In the worker: its next push goes out as ``change`` makes it; then, perhaps, the worker dies."""

    def __init__(self, change: Change, dies: bool) -> None:
        self.change, self.dies = change, dies

    def __call__(self, inputs: Any, target: Any) -> Any:
        usual = Channel.send

        def send(line: Channel, kind: Kind, payload: bytes = b"") -> None:
            setattr(Channel, "send", usual)  # noqa: B010  (a method, of which mypy thinks otherwise)
            assert kind == Kind.PUSH
            line.socket.sendall(self.change(payload))
            if self.dies:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(Channel, "send", send)  # noqa: B010
        return inputs, target


def push(payload: bytes) -> bytes:
    return _framed(Kind.PUSH, payload)


def flipped(place: int, bit: int = 1) -> Change:
    def change(payload: bytes) -> bytes:
        frame = push(payload)
        return frame[:place] + bytes([frame[place] ^ bit]) + frame[place + 1 :]

    return change


def and_garbage(payload: bytes) -> bytes:
    return push(payload) + b"unst" * 9


def too_short(payload: bytes) -> bytes:
    return push(payload[:-1])


def no_tensors(payload: bytes) -> bytes:
    return push(payload + b"\1" * 16)


def with_memory(payload: bytes) -> bytes:
    return push(payload + packed([torch.ones(2)]))


def as_a_ticket(payload: bytes) -> bytes:
    return _framed(Kind.TICKET, payload)


def up_again(payload: bytes) -> bytes:
    return _framed(Kind.UP, PROCESS.pack(1))


def nearly_all(payload: bytes) -> bytes:
    return push(payload)[:-7]


def half_a_header(payload: bytes) -> bytes:
    return push(payload)[:9]
