"""What does a worker send?"""

from __future__ import annotations

from dataclasses import dataclass

from unstale.methods.part import Part

__all__ = ["OneGradient"]


@dataclass(frozen=True)
class OneGradient(Part):
    """One gradient of one batch, at the point of the ticket."""

    @property
    def steps(self) -> int:
        """Batches a worker goes through before it pushes."""
        return 1
