"""A script's connection to a server on a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unstale.engines.live.frames import Frame, Kind
from unstale.engines.live.ray.clocks import this_machine
from unstale.engines.live.ray.cluster import Cluster
from unstale.engines.live.ray.seat import NAMESPACE, SCRIPT, SERVER, name_in, packed, seat, unpacked
from unstale.engines.live.scripts.asking import Line
from unstale.engines.live.scripts.likeness import Likeness
from unstale.errors import RunError

__all__ = ["RayLine"]

PAUSE = 0.2  # seconds between attempts to find the server
LEAVING = 5.0  # seconds that a server has to hear that a script leaves


class RayLine(Line):
    """See `Line`."""

    def __init__(self, address: str | Path | None, wait: float) -> None:
        name = name_in(address)
        self.where = f"ray://{name}"
        self._cluster = Cluster.found(f"connect({self.where!r})")
        self._ray = self._cluster.ray
        self._given: list[Any] = []
        self._come: tuple[Tensor, Mapping[str, Tensor]] | None = None
        self._closed = False
        try:
            desk = self._found(name, wait)
            self._seat = self._cluster.actor(seat(), {}, here=True)
            desk.put.remote(SERVER, [self._seat, this_machine()])
            self._over = desk.get.remote(SCRIPT)  # there is no such message: it fails when the server ends
        except BaseException:
            self._cluster.close()
            raise

    @property
    def point(self) -> Tensor:
        """See `Line`, here and below. In the object store: to be read only."""
        assert self._come is not None
        return self._come[0]

    @property
    def buffers(self) -> Mapping[str, Tensor]:
        """As `point`."""
        assert self._come is not None
        return self._come[1]

    def close(self, failure: str = "") -> None:
        """The server ends the seat when it has heard it."""
        if self._closed:
            return
        self._closed, self._come = True, None
        if not self._ray.is_initialized():
            return
        if self._ended is None:
            self._say(Kind.FAILED if failure else Kind.LEAVE, failure.encode())
            self._ray.wait([self._seat.get.remote(SCRIPT), self._over], num_returns=1, timeout=LEAVING)
        self._cluster.kill(self._seat)
        self._cluster.close()

    def _found(self, name: str, wait: float) -> Any:
        until = time.monotonic() + wait
        while True:
            try:
                return self._ray.get_actor(name, namespace=NAMESPACE)
            except ValueError:
                if time.monotonic() > until:
                    raise RunError(
                        f"no server answers at {self.where} on this Ray cluster; start one with `unstale serve "
                        f"--address {self.where}`, or name another cluster in RAY_ADDRESS"
                    ) from None
            time.sleep(PAUSE)

    def _open(self, likeness: Likeness) -> None:
        self._likeness = likeness

    def _give(self, vector: Tensor, buffers: Mapping[str, Tensor]) -> None:
        self._given = [self._ray.put(packed(self._likeness, vector, buffers))]

    def _exchange(self, kind: Kind, payload: bytes) -> Frame | None:
        if self._closed:
            return None
        given, self._given = self._given, []  # it must be there until it is answered
        self._say(kind, payload, *given)
        answer = self._seat.get.remote(SCRIPT)
        ready, _ = self._ray.wait([answer, self._over], num_returns=1)
        if answer not in ready:  # the server has ended, but may have left a message
            self._seat.put.remote(SCRIPT, None)
        try:
            come = self._ray.get(answer)
            if come is None:
                return None
            number, said, *vectors = come
            if vectors:
                (content,) = vectors
                found = content if isinstance(content, tuple) else self._ray.get(content)
                self._come = unpacked(self._likeness, found)
        except self._ray.exceptions.RayError:
            return None
        return Frame(Kind(number), said)

    def _say(self, kind: Kind, payload: bytes, *given: Any) -> None:
        self._seat.put.remote(SERVER, [int(kind), payload, *given])
