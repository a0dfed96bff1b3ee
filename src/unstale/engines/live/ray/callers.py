"""Scripts anywhere on a Ray cluster. See `seat` for how they talk to the server, which stays in its process."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unstale.engines.live.frames import DamagedFrame, Frame, Kind
from unstale.engines.live.ray.clocks import by_our_clock, this_machine
from unstale.engines.live.ray.cluster import Cluster, when_done
from unstale.engines.live.ray.seat import NAMESPACE, SCRIPT, SERVER, Vectors, name_in, packed, seat, unpacked
from unstale.engines.live.scripts.answering import Caller, Callers, Heard, Times
from unstale.engines.live.scripts.likeness import Likeness
from unstale.errors import ArgumentError, RunError

__all__ = ["RayCallers"]

MANY = 100_000  # scripts that come to one server
ENDING = 10.0  # seconds in which they can be told that it is over


class _RayCaller(Caller):
    """heard: when it last said something; content: what came with that. told: the last message to it, on its way."""

    heard = sent = 0.0
    content: Vectors | None = None
    told: Any = None

    def __init__(self, cluster: Cluster, seat: Any, machine: str) -> None:
        self.seat = seat
        self._cluster, self._elsewhere = cluster, machine != this_machine()
        self._given: list[Any] = []

    def open(self, likeness: Likeness) -> None:
        self.point = torch.empty(likeness.size, dtype=likeness.kind)
        self.say(Kind.MEMORY)

    def say(self, kind: Kind, payload: bytes = b"") -> None:
        given = self._given
        if given and kind != Kind.STOP:
            # They stay in this machine's store until they are asked for; last words must outlive this process instead.
            given = [self._cluster.ray.put(given[0])]
        self._given, self._kept, self.sent = [], given, time.monotonic()
        self.told = self.seat.put.remote(SCRIPT, [int(kind), payload, *given])

    def give(self, point: Tensor, buffers: Mapping[str, Tensor]) -> None:
        assert self.likeness is not None
        self._given = [packed(self.likeness, point, buffers)]

    def given(self) -> tuple[Tensor, dict[str, Tensor]]:
        assert self.likeness is not None
        content, self.content = self.content, None
        if content is None:
            raise DamagedFrame("a gradient without its vectors")
        return unpacked(self.likeness, content)

    def release(self) -> None:
        self.content = None

    def by_our_clock(self, times: Times) -> Times:
        return by_our_clock(times, self.sent, self.heard) if self._elsewhere else times


class _Came(NamedTuple):
    """A message, or, with the ``frame`` that it was, its vectors; without a caller, a new one. ``when``: our clock."""

    caller: _RayCaller | None
    future: Any
    when: float
    frame: Frame | None


class RayCallers(Callers):
    """Those who have connected at ``ray://NAME``."""

    def __init__(self, address: str | Path | None) -> None:
        super().__init__()
        name = name_in(address)
        self.address = f"ray://{name}"
        self._cluster = Cluster.found(f"serve(address={self.address!r})")
        self._came: queue.SimpleQueue[_Came | None] = queue.SimpleQueue()
        try:
            named = {"name": name, "namespace": NAMESPACE, "max_concurrency": MANY}
            self._desk = self._cluster.actor(seat(), {}, here=True, **named)
        except BaseException as error:
            self._cluster.close()
            if isinstance(error, ValueError):
                raise ArgumentError(
                    f"address must be free, but a server is at {self.address} already; give this one another"
                ) from error
            raise
        self._expect(None, self._desk.get.remote(SERVER))

    def wait(self, seconds: float) -> list[Heard]:
        """See `Callers`."""
        try:
            came = self._came.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return []
        if came is None:
            return []
        if came.caller is None:
            self._let_in(came.future)
            return []
        return self._hear_of(came.caller, came)

    def wake(self) -> None:
        """See `Callers`."""
        self._came.put(None)

    def close(self, failure: str = "") -> None:
        """See `Callers`."""
        callers = [*self._strangers, *self._members.values()]
        super().close(failure)
        told = [caller.told for caller in callers if isinstance(caller, _RayCaller) and caller.told is not None]
        if told:
            self._cluster.ray.wait(told, num_returns=len(told), timeout=ENDING)
        self._cluster.kill(self._desk)
        self._cluster.close()

    def _let_in(self, future: Any) -> None:
        error = future.exception()
        if error is not None:
            raise RunError(
                f"the desk at {self.address} is lost ({type(error).__name__}), and no script can find it; serve again"
            ) from error
        self._expect(None, self._desk.get.remote(SERVER))
        with suppress(TypeError, AttributeError):  # whoever asks in another way is not let in
            caller = _RayCaller(self._cluster, *future.result())
            self._expect(caller, caller.seat.get.remote(SERVER))
            self._strangers.add(caller)

    def _hear_of(self, caller: _RayCaller, came: _Came) -> list[Heard]:
        """A message that makes no sense, such as of another version, costs the script that sent it its place."""
        try:
            return self._read(caller, came)
        except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError, DamagedFrame) as error:
            return [] if caller.gone else self._lost(caller, f"it sent a message that makes no sense ({error})")

    def _read(self, caller: _RayCaller, came: _Came) -> list[Heard]:
        if came.future.exception() is not None:
            return [] if caller.gone else self._lost(caller, caller.reason)
        if came.frame is not None:
            caller.content = came.future.result()
            return [] if caller.gone else self._hear(caller, [came.frame])
        number, payload, *vectors = came.future.result()
        frame = Frame(Kind(number), payload)
        if frame.kind in (Kind.LEAVE, Kind.FAILED):
            heard = [] if caller.gone else self._hear(caller, [frame]) + self._lost(caller, caller.reason)
            self._cluster.kill(caller.seat)  # that is how it knows that it was heard
            return heard
        caller.heard = came.when
        self._expect(caller, caller.seat.get.remote(SERVER))
        if vectors:
            self._expect(caller, vectors[0], frame)
            return []
        return [] if caller.gone else self._hear(caller, [frame])

    def _expect(self, caller: _RayCaller | None, ref: Any, frame: Frame | None = None) -> None:
        when_done(ref, lambda future, when: self._came.put(_Came(caller, future, when, frame)))
