"""A worker process, forked by a nursery. It computes the gradients of the tickets it is sent.

It ends when it is told to, when its server's end of the socket closes, or when the process that started it dies.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any

from unstale.engines.live.protocol import ARRIVED, PROCESS, SENT, Setup

__all__ = ["dies_with", "main", "prepare"]

OUT_OF_MEMORY = "out of memory"
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def dies_with(parent: int) -> bool:
    """Have this process killed when its parent ends; False if it ended before the kernel was asked for that."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    return os.getppid() == parent


def prepare() -> None:
    """Import what a worker needs, before it is forked."""
    import cloudpickle  # noqa: F401
    import safetensors.torch  # noqa: F401

    import unstale.engines.live.bench
    import unstale.engines.live.block
    import unstale.engines.live.frames
    import unstale.tasks  # noqa: F401


def main(parent: int, channel: int, setup: int, block: int) -> int:
    """Work until there is no more to do. The last three are file descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not dies_with(parent):
        return 1
    from unstale.engines.allocator import keep_memory
    from unstale.engines.live.frames import Channel, Kind

    line = Channel(socket.socket(fileno=channel))
    keep_memory()
    try:
        worker = _Worker(given := _moved_in(setup), block)
        line.send(Kind.UP, PROCESS.pack(os.getpid()))
        while (frame := line.next(given.eager)) is not None and frame.kind == Kind.TICKET:
            line.send(Kind.PUSH, worker.compute(frame.payload))
    except MemoryError:
        _tell(line, OUT_OF_MEMORY)  # and no more, for that would take some
        return 1
    except BaseException as error:
        _tell(line, traceback.format_exc() + (OUT_OF_MEMORY if _is_out_of_memory(error) else ""))
        return 1
    return 0


def _is_out_of_memory(error: BaseException) -> bool:
    """Torch has an error of its own for it on devices, and a common one on the CPU."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _moved_in(setup: int) -> Setup:
    """Read how it is set up, and have paths, environment and cores as its trainer has them."""
    with os.fdopen(setup, "rb") as file:
        given: Setup = pickle.load(file)
    if hasattr(os, "sched_setaffinity") and given.cores:
        os.sched_setaffinity(0, given.cores)
    sys.path[:] = given.path
    os.environ.clear()
    os.environ.update(given.environment)
    os.chdir(given.directory)
    return given


class _Worker:
    """A bench whose parameters and gradient lie in shared memory."""

    def __init__(self, given: Setup, block: int) -> None:
        from unstale.engines.live.bench import Bench
        from unstale.engines.live.block import Block

        self.bench = Bench(given.plan, given.worker, given.device, given.threads, given.pace)
        plan = self.bench.plan
        self.block = Block(self.bench.layout.size, plan.dtype, dict(self.bench.module.named_buffers()), block)
        self.bench.open((self.block.point, self.block.gradient) if plan.device == "cpu" else None)

    def compute(self, payload: bytes) -> bytes:
        """From a ticket's frame to that of its push; gradient and buffers go into the block."""
        from unstale.engines.live.frames import packed, unpacked
        from unstale.tickets import Start

        got = time.monotonic()
        *numbers, stream, reset = SENT.unpack_from(payload)
        memory = tuple(part.to(self.bench.plan.device) for part in unpacked(payload[SENT.size :]))
        start = Start(None if stream < 0 else stream, memory, reset)
        computed, times = self.bench.compute(numbers, self.block.point, self.block.buffers, start, got)
        if computed.gradient.data_ptr() != self.block.gradient.data_ptr():
            self.block.gradient.copy_(computed.gradient)
        for name, value in computed.buffers.items():
            self.block.buffers[name].copy_(value)
        return ARRIVED.pack(numbers[0], computed.loss, *times) + packed(computed.memory)


def _tell(line: Any, what: str) -> None:
    """Say why, and wait until it is said."""
    from unstale.engines.live.frames import Kind

    line.send(Kind.FAILED, what.encode())
    while line.unsent:
        select.select([], [line], [], 1.0)
        line.flush()
