"""Recurrent memory: it belongs to a stream of batches, is kept by the server, and travels with tickets and pushes.

A stream's next ticket carries what the accepted push of the batch before left behind. The memory is reset, which the
ticket and the run's history say, where that batch was another worker's, or was given up; memory is a worker's own, as
it would be on a cluster. A worker that comes back under its number before anybody took its stream over finds the
memory as it left it. Every stream starts without any. A push that is dropped, rejected or late leaves no memory: its
batch goes out again, with the memory it started from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from unstale.errors import ArgumentError
from unstale.tickets import NO_STREAM, Entry, Start

__all__ = ["Memories"]


class _Kept(NamedTuple):
    worker: int
    after: int  # the batch that left it
    memory: tuple[Tensor, ...]


@dataclass
class Memories:
    """What each open stream remembers; nothing where batches make no streams."""

    length: int | None
    device: Any

    def __post_init__(self) -> None:
        self._kept: dict[int, _Kept] = {}

    def start(self, entry: Entry) -> Start:
        """From what a ticket starts; the same answer as long as it is out."""
        if self.length is None:
            return NO_STREAM
        stream, place = divmod(entry.batch, self.length)
        kept = self._kept.get(stream)
        if place and kept is not None and (kept.worker, kept.after) == (entry.worker, entry.batch - 1):
            # Copies, for a model may write to it, and a batch that goes out again starts where it did.
            return Start(stream, tuple(part.clone() for part in kept.memory))
        return Start(stream, reset=place > 0)

    def check(self, memory: Sequence[Tensor] | None) -> None:
        """Refuse what `accept` could not take in."""
        if self.length is None:
            if memory:
                raise ArgumentError(
                    "memory is for a server with streams, got some without; pass batches_per_stream to the server"
                )
            return
        if not isinstance(memory, tuple | list) or not all(isinstance(part, Tensor) for part in memory):
            got = "none" if memory is None else type(memory).__name__
            raise ArgumentError(
                f"memory must come with a push where batches make streams, as a tuple of tensors (empty for a model "
                f"without any), got {got}; pass memory="
            )

    def accept(self, entry: Entry, memory: Sequence[Tensor] | None) -> None:
        """Keep what an accepted push left behind, after `check`; nothing follows the last batch of a stream."""
        if self.length is None or memory is None:
            return
        stream, place = divmod(entry.batch, self.length)
        self._kept.pop(stream, None)
        if place < self.length - 1:
            own = tuple(part.detach().clone() for part in memory)
            self._kept[stream] = _Kept(entry.worker, entry.batch, own)

    def state_dict(self) -> dict[str, Any]:
        """Copies of all tensors."""
        return {
            str(stream): {"worker": kept.worker, "after": kept.after, "memory": [part.clone() for part in kept.memory]}
            for stream, kept in self._kept.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over copies of a saved state, on this server's device."""
        self._kept = {
            int(stream): _Kept(
                kept["worker"], kept["after"], tuple(part.to(self.device, copy=True) for part in kept["memory"])
            )
            for stream, kept in state.items()
        }
