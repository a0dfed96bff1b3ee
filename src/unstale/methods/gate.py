"""May this worker start now?"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from unstale.methods.part import Part

__all__ = ["Barrier", "Open", "Standing"]


@dataclass(frozen=True)
class Standing:
    """Where a worker stands when it asks to start.

    held: workers whose gradients wait in the gather. living: those alive. given: gradients accepted from each of them;
    a newcomer starts level with the slowest.
    """

    worker: int
    held: frozenset[int]
    living: Set[int]
    given: Mapping[int, int]


@dataclass(frozen=True)
class Open(Part):
    """Always: asynchronous training never waits."""

    def open(self, standing: Standing) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class Barrier(Part):
    """A worker whose gradient waits in the gather waits with it."""

    def open(self, standing: Standing) -> bool:
        """True unless this worker already gave to the update that is being gathered."""
        return standing.worker not in standing.held
