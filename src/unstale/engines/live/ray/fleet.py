"""Workers that are actors of a Ray cluster."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unstale.clocks import Clock
from unstale.engines.gradients.base import Computed
from unstale.engines.live.fleet import Arrived, Gone, Message, Placed, Up
from unstale.engines.live.ray.actors import Answer, Place, Worker
from unstale.engines.live.ray.arrays import boxed, opened
from unstale.engines.live.ray.clocks import by_our_clock, this_machine
from unstale.engines.live.ray.cluster import Cluster, when_done
from unstale.engines.live.ray.servers import RayShards
from unstale.engines.live.travel import packed_plan
from unstale.server import Server
from unstale.sharded import ShardedServer, Staged
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["RayFleet"]


@dataclass
class _Member:
    """One actor; a worker that is started again gets another, and what the old one still says is not heard."""

    worker: int
    room: Any
    actor: Any = None
    elsewhere: bool = False
    process: int = 0
    sent: float = 0.0


@dataclass(frozen=True)
class _Heard:
    """A call to an actor ended; ``when``, by this machine's clock."""

    member: _Member
    future: Any
    when: float


class RayFleet:
    """A `Fleet` of actors, each with so many ``threads`` for torch; ``resources``: what each asks the cluster for.

    devices: where workers compute, in turns. pace: the least time that each gradient takes, in seconds.
    """

    def __init__(
        self,
        plan: Plan,
        server: Server,
        *,
        cluster: Cluster,
        resources: Mapping[str, float],
        threads: int = 1,
        devices: Sequence[str] | None = None,
        pace: Clock | None = None,
    ) -> None:
        self.plan, self.server, self.cluster = plan, server, cluster
        self._resources, self._threads, self._pace = resources, threads, pace
        self._devices = list(devices or ["cuda" if resources.get("GPU") else "cpu"])
        self._plan = cluster.put(packed_plan(plan))
        self._here = this_machine()
        self._split = server if isinstance(server, ShardedServer) else None
        self._places: list[Place] = []
        if self._split is not None:
            assert isinstance(self._split.shards, RayShards)
            actors, bounds = self._split.shards.actors, self._split.bounds
            self._places = [Place(actor, *slice_) for actor, slice_ in zip(actors, bounds, strict=True)]
        self._members: dict[int, _Member] = {}
        self._heard: queue.SimpleQueue[_Heard | None] = queue.SimpleQueue()

    def start(self, worker: int) -> bool:
        """See `Fleet`. It waits where the cluster has not what it asks for."""
        self.kill(worker)
        room = self.cluster.room(self._resources)
        member = self._members[worker] = _Member(worker, room)
        if room is None:
            self._begin(member)
        else:
            self._expect(member, room.ready())
        return room is None

    def send(self, worker: int, ticket: Ticket) -> None:
        """See `Fleet`."""
        member = self._members[worker]
        member.sent = time.monotonic()
        numbers = ticket.number, ticket.batch, ticket.version, ticket.epoch
        stream, memory, reset = ticket.start
        start = stream, [boxed(part) for part in memory], reset
        buffers = {name: boxed(value) for name, value in ticket.buffers.items()}
        points = (boxed(ticket.params),) if self._split is None else self._split.handles(worker)
        self._expect(member, member.actor.compute.remote(numbers, start, buffers, *points))

    def wait(self, seconds: float) -> list[Message]:
        """See `Fleet`."""
        try:
            heard = self._heard.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return []
        # One at a time: what is done about it may change who is to be heard.
        if heard is None or self._members.get(heard.member.worker) is not heard.member:
            return []
        return [self._understood(heard)]

    def kill(self, worker: int) -> None:
        """See `Fleet`."""
        member = self._members.pop(worker, None)
        if member is not None:
            self.cluster.kill(member.actor, member.room)

    def wake(self) -> None:
        """See `Fleet`."""
        self._heard.put(None)

    def close(self) -> None:
        """See `Fleet`."""
        with ExitStack() as last:  # all of it, whatever fails
            last.callback(self.cluster.close)
            for place in self._places:
                last.callback(self.cluster.kill, place.server)
            for worker in list(self._members):
                last.callback(self.kill, worker)

    def process(self, worker: int) -> int:
        """The number of its actor's process, on its machine."""
        return self._members[worker].process

    def _begin(self, member: _Member) -> None:
        device = self._devices[member.worker % len(self._devices)]
        arguments = self._plan, member.worker, device, self._threads, self._pace, self._places
        member.actor = self._actor(member.room, *arguments)
        self._expect(member, member.actor.up.remote())

    def _actor(self, room: Any, *arguments: Any) -> Any:
        return self.cluster.actor(Worker, self._resources, *arguments, room=room)

    def _expect(self, member: _Member, ref: Any) -> None:
        when_done(ref, lambda future, when: self._heard.put(_Heard(member, future, when)))

    def _understood(self, heard: _Heard) -> Message:
        member, error = heard.member, heard.future.exception()
        if error is not None:
            self.kill(member.worker)
            return Gone(member.worker, _reason(error))
        if member.actor is None:
            self._begin(member)
            return Placed(member.worker)
        told = heard.future.result()
        if not isinstance(told, Answer):
            machine, member.process = told
            member.elsewhere = machine != self._here
            return Up(member.worker)
        device = self.plan.device
        gradient: Any = Staged(told.number, bool(told.staged))
        computed = Computed(
            told.loss,
            gradient if told.gradient is None else opened(told.gradient, device),
            {name: opened(box, device) for name, box in told.buffers.items()},
            tuple(opened(part, device) for part in told.memory),
        )
        times = by_our_clock(told.times, member.sent, heard.when) if member.elsewhere else told.times
        return Arrived(member.worker, told.number, computed, times)


def _reason(error: BaseException) -> str:
    """Why a call failed, without Ray's indentation."""
    text = "\n".join(line.strip() if "Error" not in line else line for line in str(error).strip().splitlines())
    return "out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {text}"
