"""In which order batches are handed out, and to whom: any batch to anybody, or along streams."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Set
from typing import Any, Protocol

__all__ = ["AlongStreams", "AnyBatch", "Queue", "queue"]


class Queue(Protocol):
    """Batches 0, 1, 2, … up to ``total`` that wait to be handed out."""

    @property
    def available(self) -> bool:
        """Whether there is a batch to hand out, to whomever."""

    def offers(self, worker: int) -> bool:
        """Whether there is one for ``worker``."""

    def employed(self, workers: Set[int]) -> Set[int]:
        """Those of ``workers`` for whom there is, or may yet be, a batch."""

    def take(self, worker: int) -> int:
        """The next batch for ``worker``, which is on offer."""

    def put_back(self, batch: int) -> None:
        """It comes back undone."""

    def done(self, batch: int) -> None:
        """It will not come back."""

    def release(self, worker: int) -> None:
        """``worker`` is gone, or silent: what was kept for it is for anybody."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


def queue(total: int | None, batches_per_stream: int | None) -> Queue:
    """Along streams, where batches make streams."""
    return AnyBatch(total) if batches_per_stream is None else AlongStreams(total, batches_per_stream)


class AnyBatch:
    """Batches in order, to whoever asks; one that came back before any new one."""

    def __init__(self, total: int | None) -> None:
        self.total = total
        self._fresh = 0
        self._returned: list[int] = []

    @property
    def available(self) -> bool:
        """See `Queue`, here and below."""
        return bool(self._returned) or self.total is None or self._fresh < self.total

    def offers(self, worker: int) -> bool:
        """The same for all."""
        return self.available

    def employed(self, workers: Set[int]) -> Set[int]:
        """All of them."""
        return workers

    def take(self, worker: int) -> int:
        """The lowest that came back, or a new one."""
        if self._returned:
            return heapq.heappop(self._returned)
        batch, self._fresh = self._fresh, self._fresh + 1
        return batch

    def put_back(self, batch: int) -> None:
        """Anybody may have it next."""
        heapq.heappush(self._returned, batch)

    def done(self, batch: int) -> None:
        """Nothing waits for it."""

    def release(self, worker: int) -> None:
        """Nothing is kept for anyone."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {"fresh": self._fresh, "returned": sorted(self._returned)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._fresh, self._returned = state["fresh"], list(state["returned"])


class AlongStreams:
    """Batches along streams of ``length``: batch b is number b % length of stream b // length.

    A stream's batches go out in order, the next one when the one before is done, so one at a time. A worker keeps its
    stream to the end, unless it leaves or falls silent; then it takes one that was left behind, the lowest first, or
    opens the next. Only at the very end, when the last streams are all taken, does a worker without one go idle.
    """

    def __init__(self, total: int | None, length: int) -> None:
        self.total, self.length = total, length
        self._opened = 0
        self._next: dict[int, int] = {}  # of each open stream, the batch that is out, or to be handed out
        self._out: set[int] = set()
        self._own: dict[int, int] = {}  # by worker, its stream

    @property
    def available(self) -> bool:
        """Whether a stream could go on, or be opened."""
        return self._unopened or len(self._next) > len(self._out)

    @property
    def _unopened(self) -> bool:
        return self.total is None or self._opened * self.length < self.total

    def offers(self, worker: int) -> bool:
        """Its own stream, one that nobody has, or a new one."""
        return self._stream_for(worker) is not None

    def employed(self, workers: Set[int]) -> Set[int]:
        """Those who have a stream, and all others too while there is one to be had."""
        return workers if self._unopened or self._left else workers & self._own.keys()

    def take(self, worker: int) -> int:
        """The next batch of the worker's stream, which is from now on its own."""
        stream = self._stream_for(worker)
        assert stream is not None, "take() only what is on offer"
        if stream == self._opened:
            self._next[stream] = stream * self.length
            self._opened += 1
        self._own[worker] = stream
        self._out.add(stream)
        return self._next[stream]

    def put_back(self, batch: int) -> None:
        """It is its stream's next one again."""
        self._out.discard(batch // self.length)

    def done(self, batch: int) -> None:
        """The stream's next one may go out, or the stream is at its end."""
        stream = batch // self.length
        self._out.discard(stream)
        self._next[stream] = batch + 1
        if (batch + 1) % self.length == 0 or batch + 1 == self.total:
            del self._next[stream]
            self._own = {worker: own for worker, own in self._own.items() if own != stream}

    def release(self, worker: int) -> None:
        """Its stream is for anybody."""
        self._own.pop(worker, None)

    def _stream_for(self, worker: int) -> int | None:
        own = self._own.get(worker)
        if own is not None:
            return None if own in self._out else own
        if left := self._left:
            return min(left)
        return self._opened if self._unopened else None

    @property
    def _left(self) -> set[int]:
        """Open streams that nobody has."""
        return self._next.keys() - self._out - set(self._own.values())

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {
            "opened": self._opened,
            "next": [[stream, batch] for stream, batch in sorted(self._next.items())],
            "out": sorted(self._out),
            "own": [[worker, stream] for worker, stream in sorted(self._own.items())],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._opened, self._out = state["opened"], set(state["out"])
        self._next, self._own = dict(state["next"]), dict(state["own"])
