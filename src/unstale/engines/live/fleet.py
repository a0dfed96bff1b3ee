"""What a conductor asks of whoever runs its workers, and what it hears from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from unstale.engines.gradients.base import Computed
from unstale.tickets import Ticket

__all__ = ["Arrived", "Asked", "Fleet", "Gone", "Message", "Placed", "Up"]


class Placed(NamedTuple):
    """There is room for a worker that had to wait for it; it starts."""

    worker: int


class Up(NamedTuple):
    """A worker has started and is ready for a ticket."""

    worker: int


class Arrived(NamedTuple):
    """A gradient came. Its tensors are valid until the worker is sent the next ticket.

    ``times``: when its worker had the ticket, began to compute and was done, by this machine's monotonic clock.
    """

    worker: int
    number: int
    computed: Computed
    times: tuple[float, float, float]


class Gone(NamedTuple):
    """A worker is no more; ``reason`` may have several lines, such as a traceback. Empty: it left in peace."""

    worker: int
    reason: str


class Asked(NamedTuple):
    """A script that connected asks for a ticket, or for θ."""

    worker: int
    what: Literal["ticket", "theta"]


Message = Placed | Up | Arrived | Gone


class Fleet(Protocol):
    """Worker processes or actors, by number. All methods but `wake` belong to one thread."""

    def start(self, worker: int) -> bool:
        """Begin to start a worker; `Up` will tell when it is ready, `Gone` if it never is.

        False: it has to wait for room first, and `Placed` will tell when there is some.
        """

    def send(self, worker: int, ticket: Ticket) -> None:
        """Have a worker that is up and idle compute a ticket's gradient."""

    def wait(self, seconds: float) -> Sequence[Message]:
        """What was heard, as soon as there is something, or after so many seconds."""

    def kill(self, worker: int) -> None:
        """End a worker at once, whatever it is doing; nothing more is heard of it."""

    def wake(self) -> None:
        """From any thread: end a `wait`."""

    def close(self) -> None:
        """End all workers, and leave nothing behind."""
