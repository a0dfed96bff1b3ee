"""What can be read off a server: parameters, progress, who is alive, and the states that its parts keep."""

from __future__ import annotations

from torch import Tensor, nn

from unstale import flat
from unstale.buffers import Buffers
from unstale.desk import Desk
from unstale.errors import ArgumentError
from unstale.flat import Layout
from unstale.memory import Memory
from unstale.stepper import Stepper
from unstale.streams import Memories
from unstale.tickets import Ticket

__all__ = ["View"]


class View:
    """The readable side of a `Server`."""

    layout: Layout
    buffers: Buffers
    _stepper: Stepper
    _memory: Memory
    _memories: Memories
    _desk: Desk

    @property
    def params(self) -> Tensor:
        """(d,) a copy of θ, in the order of ``layout``; assign to move θ from outside."""
        return self._memory.theta.to(self._memory.dtype, copy=True)

    @params.setter
    def params(self, value: Tensor) -> None:
        if not isinstance(value, Tensor) or value.shape != (self.layout.size,):
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ArgumentError(f"params must be a tensor of shape ({self.layout.size},), got {got}")
        self._memory.move(value)
        self._stepper.moved()

    @property
    def version(self) -> int:
        """Updates applied so far."""
        return self._stepper.version

    @property
    def workers(self) -> tuple[int, ...]:
        """Who is alive."""
        return tuple(sorted(self._desk.workers))

    @property
    def progress(self) -> float:
        """Epochs of data accepted."""
        return self._desk.ledger.progress

    @property
    def accepted(self) -> int:
        """Batches accepted."""
        return self._desk.ledger.accepted

    def counts(self, ticket: Ticket) -> bool:
        """Whether a push of ``ticket`` would be taken."""
        return ticket.key in self._desk.ledger.out

    @property
    def waiting(self) -> tuple[int, ...]:
        """Workers that pulled and got None."""
        return tuple(sorted(self._desk.waiting))

    @property
    def finished(self) -> bool:
        """Whether every batch is accepted or quarantined, and nothing waits in the gather."""
        return self._desk.ledger.settled and not self._desk.held

    @property
    def quarantined(self) -> tuple[int, ...]:
        """Batches given up after three failures."""
        return tuple(self._desk.ledger.quarantined)

    def state(self, name: str, worker: int | None = None) -> Tensor:
        """(d,) a copy of a state that a part keeps, such as ``"S"``, or ``"v"`` of one worker."""
        kept = self._memory.shared if worker is None else self._memory.rows[self._desk.alive(worker)]
        if name not in kept:
            raise ArgumentError(
                f"name must be a state that this method keeps ({', '.join(sorted(kept))}), got {name!r}"
            )
        return kept[name].clone()

    def load_into(self, module: nn.Module) -> None:
        """Copy θ, and the buffers that an evaluation uses, into ``module``."""
        flat.load(self._memory.theta, module, self.layout)
        flat.load_buffers(self.buffers.current(), module)
