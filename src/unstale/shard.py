"""One slice of a server that is split: its parameters, its states, and the gradients that are staged for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from unstale import intake, kernels
from unstale.flat import Layout
from unstale.memory import Memory
from unstale.methods.steps import Steps
from unstale.stepper import Stepper

__all__ = ["Shard"]


class Shard:
    """A `Stepper` over one slice of the vector, and what its workers staged there."""

    def __init__(
        self, steps: Steps, layout: Layout, executor: kernels.Executor, memory: Callable[..., Memory], params: Tensor
    ) -> None:
        self._stepper = Stepper(steps, layout, executor, memory, params)
        self._memory = self._stepper.memory
        self._staged: dict[int, dict[int, Tensor]] = {}

    def stage(self, worker: int, number: int, gradient: Tensor) -> bool:
        """Keep a gradient's slice until its ticket is pushed; whether it is finite."""
        self._staged.setdefault(worker, {})[number] = gradient
        return intake.is_finite(gradient)

    def point(self, worker: int, workers: int) -> tuple[dict[str, float], Tensor]:
        """See `Stepper`."""
        return {}, self._stepper.point(worker, workers)

    def push(self, worker: int, number: int, about: Mapping[str, Any]) -> tuple[dict[str, float], Tensor | None]:
        """See `Stepper`; with the gradient that was staged, and answering the bare sums."""
        gradient = self._staged.pop(worker)[number]
        return self._stepper.step(worker, gradient, **about)

    def flush(self, workers: int, count: int) -> None:
        """See `Stepper`."""
        self._stepper.flush(workers=workers, count=count)

    def join(self, worker: int) -> None:
        """See `Memory`."""
        self._memory.join(worker)
        self._stepper.moved()

    def leave(self, worker: int) -> None:
        """See `Memory`; what the worker had staged is forgotten."""
        self._staged.pop(worker, None)
        self._memory.leave(worker)
        self._stepper.moved()

    def theta(self) -> Tensor:
        """This slice of θ."""
        return self._memory.theta

    def move(self, params: Tensor) -> None:
        """Put θ elsewhere."""
        self._memory.move(params)
        self._stepper.moved()

    def state_dict(self) -> dict[str, Any]:
        """See `Stepper`."""
        return self._stepper.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Stepper`. What was staged is forgotten: its workers are not those that come."""
        self._staged.clear()
        self._stepper.load_state_dict(state)
