"""A server's state, saved and taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from unstale.describe import describe
from unstale.errors import ArgumentError
from unstale.methods import Method
from unstale.tickets import Entry, Ticket
from unstale.view import View

__all__ = ["Resumable"]


class Resumable(View):
    """The side of a `Server` that outlives it."""

    method: Method

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next push depends on: copies of tensors, and plain values."""
        return {
            "of": self._identity(),
            "desk": self._desk.state_dict(),
            "stepper": self._stepper.state_dict(),
            "buffers": self.buffers.state_dict(),
            "streams": self._memories.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state, bit for bit; tickets that were out then still count.

        Raises `ArgumentError` if it is not of this method, model and configuration; then nothing has changed.
        """
        for name, value in self._identity().items():
            saved = dict(state.get("of", {})).get(name)
            if saved != value:
                raise ArgumentError(f"the saved state must be of the same {name}, {value}; got {saved}")
        self._desk.load_state_dict(state["desk"])
        self._stepper.load_state_dict(state["stepper"])
        self.buffers.load_state_dict(state["buffers"])
        self._memories.load_state_dict(state["streams"])

    def outstanding(self) -> tuple[Ticket, ...]:
        """Tickets that are out, as the workers have them: what an engine resumes after `load_state_dict`.

        None where the server keeps no sent points (``measure=False``, and a method that needs none): pull again.
        """
        points, out = self._memory.points, self._desk.ledger.out.values()
        return tuple(
            self._made(entry, self._memory.handed(points[entry.worker]), self.buffers.issued(entry.worker))
            for entry in out
            if entry.worker in points
        )

    def _identity(self) -> dict[str, Any]:
        """What a saved state must have in common with the server that goes on from it."""
        return {
            "method": describe(self.method.replace()),
            "parameters": describe(self.layout.spans),
            "layers": [[layer.name, layer.start, layer.stop] for layer in self.layout.layers],
            "dtype": str(self._memory.dtype),
            "kept": [*self._memory.states, *(["points"] if self._memory.keep_points else [])],
            "batch_norm": self.buffers.policy,
            "batches": [self._desk.ledger.total, self._desk.ledger.per_epoch, self._memories.length],
        }

    def _ticket(self, entry: Entry, point: Tensor) -> Ticket:
        return self._made(entry, point, self.buffers.issue(entry.worker))

    def _made(self, entry: Entry, point: Tensor, buffers: Mapping[str, Tensor]) -> Ticket:
        return self._desk.ledger.ticket(entry, point, buffers, self.layout, self._memories.start(entry))
