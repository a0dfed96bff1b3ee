"""Worker processes on this machine: a socket and a piece of shared memory each, no ports, no names, no locks."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from unstale.clocks import Clock
from unstale.engines.gradients.base import Computed
from unstale.engines.live.bell import Bell
from unstale.engines.live.block import Block
from unstale.engines.live.fleet import Arrived, Gone, Message, Up
from unstale.engines.live.frames import Channel, DamagedFrame, Frame, Kind, packed, unpacked
from unstale.engines.live.nursery import Nursery, nursery
from unstale.engines.live.protocol import ARRIVED, PROCESS, SENT, Setup
from unstale.engines.live.travel import packed_plan
from unstale.server import Server
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Processes"]

_ENDING = 5.0  # seconds that a worker has to end by itself, once it is told to
_EAGER = 1e-3  # seconds that a worker with a core of its own waits there without falling asleep


@dataclass
class _Member:
    nursery: Nursery
    token: int
    line: Channel
    block: Block
    process: int = 0
    busy: bool = False
    reason: str = ""


class Processes:
    """A `Fleet` of processes, each with so many ``threads`` for torch.

    devices: where workers compute, in turns; None: on the server's kind of device, each on one of its own if there are
    several. pace: the least time that each gradient takes, in seconds. Points and gradients on the CPU are not copied:
    both sides see the same memory.
    """

    def __init__(
        self,
        plan: Plan,
        server: Server,
        *,
        threads: int = 1,
        devices: Sequence[str] | None = None,
        pace: Clock | None = None,
    ) -> None:
        self.plan, self.server = plan, server
        self._threads, self._pace = threads, pace
        self._devices = list(devices or _devices(plan.device))
        self._plan = packed_plan(plan)
        self._buffers = dict(plan.task.build(plan.seed).to(plan.dtype).named_buffers())
        nursery()  # now, for it takes its time
        self._members: dict[int, _Member] = {}
        self._places: dict[int, Block] = {}
        self._selector = selectors.DefaultSelector()
        self._bell = Bell(self._selector)
        if plan.device == "cpu" and plan.dtype.itemsize >= 4:
            server.place_points(lambda worker: self._places[worker].point)

    def start(self, worker: int) -> bool:
        """See `Fleet`; there is always room."""
        self.kill(worker)
        block = self._places[worker] = Block(self.server.layout.size, self.plan.dtype, self._buffers)
        mine, theirs = socket.socketpair()
        setup = _in_memory(self._setup(worker))
        try:
            home = nursery()
            token = home.start((theirs.fileno(), setup, block.descriptor))
        finally:
            theirs.close()
            os.close(setup)
            block.close()
        member = _Member(home, token, Channel(mine), block)
        self._members[worker] = member
        self._selector.register(member.line, selectors.EVENT_READ, worker)
        return True

    def send(self, worker: int, ticket: Ticket) -> None:
        """See `Fleet`."""
        member = self._members.get(worker)
        if member is None:
            return  # it is no more, which the conductor is about to hear
        member.busy = True
        member.block.put(ticket.params, ticket.buffers)
        stream, memory, reset = ticket.start
        numbers = ticket.number, ticket.batch, ticket.version, ticket.epoch, -1 if stream is None else stream, reset
        member.line.send(Kind.TICKET, SENT.pack(*numbers) + packed(memory))
        member.line.watch(self._selector)

    def wait(self, seconds: float) -> list[Message]:
        """See `Fleet`."""
        heard: list[Message] = []
        for key, _ in self._selector.select(max(seconds, 0.0)):
            if key.data is None:
                self._bell.heard()
            elif key.data in self._members:
                heard += self._hear(key.data)
        return heard

    def kill(self, worker: int) -> None:
        """See `Fleet`."""
        member = self._members.pop(worker, None)
        if member is not None:
            self._forget(member)

    def wake(self) -> None:
        """See `Fleet`."""
        self._bell.ring()

    def close(self) -> None:
        """See `Fleet`."""
        members = list(self._members.values())
        self._members.clear()
        for member in members:
            member.line.send(Kind.STOP)
        patience = time.monotonic() + _ENDING
        for member in members:
            self._forget(member, 0.0 if member.busy else patience - time.monotonic())
        self._selector.close()
        self._bell.close()

    def process(self, worker: int) -> int:
        """The number that the system gave its process."""
        return self._members[worker].process

    def _setup(self, worker: int) -> bytes:
        alone = self._has_its_own(worker)
        setup = Setup(
            worker=worker,
            path=list(sys.path),
            plan=self._plan,
            device=self._devices[worker % len(self._devices)],
            cores=self._share(worker) if alone else self._cores,
            eager=_EAGER if alone else 0.0,
            threads=self._threads,
            environment=dict(os.environ),
            directory=str(Path.cwd()),
            pace=self._pace,
        )
        return pickle.dumps(setup)

    def _hear(self, worker: int) -> list[Message]:
        member, heard = self._members[worker], list[Message]()
        try:
            member.line.flush()
            for frame in member.line.receive():
                heard += self._understood(worker, member, frame)
        except DamagedFrame as finding:
            member.reason = f"it sent {finding}"
            heard.append(self._lost(worker))
        else:
            if member.line.closed:
                heard.append(self._lost(worker))
            else:
                member.line.watch(self._selector)
        return heard

    def _understood(self, worker: int, member: _Member, frame: Frame) -> list[Message]:
        if frame.kind == Kind.UP and len(frame.payload) == PROCESS.size and not member.process:
            (member.process,) = PROCESS.unpack(frame.payload)
            return [Up(worker)]
        if frame.kind == Kind.FAILED:
            member.reason = frame.payload.decode(errors="replace").strip()
            return []
        if frame.kind != Kind.PUSH or len(frame.payload) < ARRIVED.size:
            raise DamagedFrame("a message that makes no sense")
        member.busy = False
        number, loss, *times = ARRIVED.unpack_from(frame.payload)
        device = self.plan.device
        gradient = member.block.gradient.to(device)
        buffers = {name: value.to(device) for name, value in member.block.buffers.items()}
        memory = tuple(part.to(device) for part in unpacked(frame.payload[ARRIVED.size :]))
        got, began, ended = times
        return [Arrived(worker, number, Computed(loss, gradient, buffers, memory), (got, began, ended))]

    def _lost(self, worker: int) -> Gone:
        member = self._members.pop(worker)
        status = self._forget(member, 0.0 if member.reason else 1.0)
        return Gone(worker, member.reason or _ended(status))

    def _forget(self, member: _Member, seconds: float = 0.0) -> int | None:
        """Let go of a worker, which has so many seconds to end by itself; answers how it did."""
        status = member.nursery.status(member.token, seconds) if seconds > 0 else None
        if status is None:
            member.nursery.kill(member.token)
            status = member.nursery.status(member.token, _ENDING)
        self._selector.unregister(member.line)
        member.line.close()
        return status

    def _share(self, worker: int) -> list[int]:
        """The cores of a worker's own, one for each of its threads."""
        return [self._cores[(worker * self._threads + n) % len(self._cores)] for n in range(self._threads)]

    def _has_its_own(self, worker: int) -> bool:
        """Whether there is a core for each thread of all. If not, the kernel places them better: it knows which
        is free. Other runs, and the server itself, are not counted.
        """
        return 0 < self._threads * max(self.plan.workers, worker + 1) <= len(self._cores)

    @cached_property
    def _cores(self) -> list[int]:
        return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _devices(server: str) -> list[str]:
    kind = torch.device(server).type
    return [f"cuda:{n}" for n in range(torch.cuda.device_count())] if kind == "cuda" else [server]


def _in_memory(content: bytes) -> int:
    """A file without a name, to be read from its start."""
    descriptor = os.memfd_create("unstale-setup", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _ended(status: int | None) -> str:
    if status is None:
        return "its process ended; how is not known, for the one that forked it is gone, or too busy to tell"
    if status < 0:
        return f"it could not be forked ({os.strerror(-status)})"
    if not os.WIFSIGNALED(status):
        return f"its process ended with exit code {os.waitstatus_to_exitcode(status)}"
    name = signal.Signals(os.WTERMSIG(status)).name
    return f"its process was killed by {name}{' (out of memory, perhaps)' if name == 'SIGKILL' else ''}"
