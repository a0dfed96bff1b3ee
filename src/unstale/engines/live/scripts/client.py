"""A script's own loop as a worker: ``with unstale.connect() as worker``, `Worker.pull` and `Worker.push`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from torch import Tensor, nn

from unstale import checks, flat
from unstale.engines.live.ray import ray_line
from unstale.engines.live.scripts.address import chosen, scheme
from unstale.engines.live.scripts.asking import Line, Work
from unstale.engines.live.scripts.likeness import Likeness
from unstale.engines.live.scripts.line import SocketLine
from unstale.errors import ArgumentError
from unstale.flat import Layout
from unstale.measure import Receipt

__all__ = ["Worker", "connect"]

NUMBERS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Variables that tell a script's number: torchrun's, and Slurm's."""


class Worker:
    """One worker of a training that a server conducts elsewhere. A context manager; not for several threads.

    ``number``: the worker's, once it has pulled.
    """

    def __init__(self, line: Line, number: int, strict: bool) -> None:
        self.number = number
        self._line, self._strict = line, strict
        self._layout: Layout | None = None
        self._work: Work | None = None

    def pull(self, model: nn.Module) -> Work | None:
        """Load the point at which to compute the next gradient into ``model``, and clear its gradients.

        Waits while the method lets this worker wait. None when the training has ended: then ``model`` has the trained
        parameters. A second pull before a push gives the first batch back.

        Raises `ArgumentError` for a model that is not like those of the workers before, and `RunError` if the server
        is gone.
        """
        if self._layout is None:
            self.number, self._layout = self._line.meet(model, Likeness.of(model), self.number, self._strict)
        self._work = self._line.pull()
        self._load(model)
        return self._work

    def push(self, model: nn.Module, loss: float | Tensor | None = None) -> Receipt:
        """Hand in the ``.grad``s of ``model``; ``loss`` is for the history only. Answers what became of them.

        Raises `ArgumentError` without a pull before, `GradientError` for a model without gradients, and `RunError` if
        the server is gone.
        """
        if self._work is None or self._layout is None:
            raise ArgumentError("push(model) must follow a pull(model) that gave a batch; call pull first")
        gradient = flat.gradient(model, self._layout)
        value = float(loss.detach() if isinstance(loss, Tensor) else "nan" if loss is None else loss)
        work, self._work = self._work, None
        return self._line.push(work, gradient, dict(model.named_buffers()), value)

    def load(self, model: nn.Module) -> None:
        """Load the current parameters, and buffers to evaluate them with, into ``model``: between push and pull."""
        if self._work is not None or self._layout is None:
            raise ArgumentError("load(model) must come between a push and the next pull; call push(model) first")
        self._line.theta()
        self._load(model)

    def close(self) -> None:
        """Leave. A batch that was not pushed goes to another worker."""
        self._line.close()

    def _load(self, model: nn.Module) -> None:
        assert self._layout is not None
        flat.load(self._line.point, model, self._layout)
        flat.load_buffers(self._line.buffers, model)
        model.zero_grad(set_to_none=True)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = error is not None and isinstance(error, Exception)
        self._line.close(f"{type(error).__name__}: {error}" if failed else "")


WAYS: dict[str, Callable[[str | Path | None, float], Line]] = {
    "": lambda address, wait: SocketLine(chosen(address), wait),
    "ray": ray_line,
}
"""By the scheme of an address; none: a socket on this machine."""


def connect(address: str | Path | None = None, worker: int | None = None, *, wait: float = 10.0) -> Worker:
    """Become a worker of a server that `unstale serve`, or `serve`, has started on this machine or a Ray cluster.

    address: the server's (default: ``UNSTALE_ADDRESS``, or the one that a server has by default). ``ray://NAME``: by
        that name on the cluster that this process is connected to, or that ``RAY_ADDRESS`` tells, or that this machine
        belongs to.
    worker: this one's number; no two may have the same. Default: what torchrun or Slurm says, where that is free, or
        else the lowest free one.
    wait: seconds that the server may take to start.

    Raises `ArgumentError` for an argument that breaks a rule, `RunError` if there is no server.
    """
    number = _number() if worker is None else checks.whole("worker", worker, 0)
    way = WAYS.get(scheme(address), WAYS[""])
    return Worker(way(address, checks.nonnegative("wait", wait)), number, strict=worker is not None)


def _number() -> int:
    """What the environment says; -1 for nothing."""
    for name in NUMBERS:
        if name in os.environ:
            if not os.environ[name].isdecimal():
                raise ArgumentError(f"{name} must be a whole number of at least 0, got {os.environ[name]!r}; unset it")
            return int(os.environ[name])
    return -1
