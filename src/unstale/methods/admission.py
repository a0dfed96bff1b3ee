"""Is this gradient used?"""

from __future__ import annotations

from dataclasses import dataclass

from unstale.methods.part import Part, whole

__all__ = ["EveryPush", "MaxDelay"]


@dataclass(frozen=True)
class EveryPush(Part):
    """Every gradient is used, however stale."""

    def admit(self, delay: int) -> bool:
        """True."""
        return True

    def cancel(self, delay: int) -> bool:
        """False."""
        return False


@dataclass(frozen=True)
class MaxDelay(Part):
    """A gradient is used if τ ≤ limit, else dropped; with ``restart``, given up as soon as it is too old.

    ``MaxDelay(R - 1)`` is the rule of Ringmaster ASGD (arXiv 2501.16168).
    """

    limit: int
    restart: bool = False

    def __post_init__(self) -> None:
        whole("limit", self.limit, 0)

    def admit(self, delay: int) -> bool:
        """Τ ≤ limit."""
        return delay <= self.limit

    def cancel(self, delay: int) -> bool:
        """Whether a gradient still being computed would be dropped if it arrived now."""
        return self.restart and delay > self.limit
