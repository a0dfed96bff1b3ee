"""What runs on a cluster's machines."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unstale.clocks import Clock
from unstale.engines.live.bench import Bench
from unstale.engines.live.ray.arrays import Boxed, boxed, opened
from unstale.engines.live.ray.clocks import this_machine
from unstale.tickets import Start

__all__ = ["Answer", "Place", "Worker"]


class Place(NamedTuple):
    """A server actor, and from where to where its slice of the vector goes."""

    server: Any
    start: int
    stop: int


class Answer(NamedTuple):
    """A worker computed a ticket's gradient, or has ``staged`` it at the servers: then, whether it is finite."""

    number: int
    loss: float
    gradient: Boxed | None
    staged: bool | None
    buffers: dict[str, Boxed]
    memory: tuple[Boxed, ...]
    times: tuple[float, float, float]


class Worker:
    """An actor: a bench on some machine. ``plan``: as of `packed_plan`, in the object store.

    ``places``: where its points come from and its gradients go to; none: with the calls, and with their answers.
    """

    def __init__(
        self,
        plan: Any,
        worker: int,
        device: str,
        threads: int,
        pace: Clock | None,
        places: Sequence[Place] = (),
    ) -> None:
        self.bench = Bench(memoryview(plan), worker, device, threads, pace)
        size, dtype = self.bench.layout.size, self.bench.plan.dtype
        self._point = torch.empty(size, dtype=dtype, device=device)
        self.bench.open((self._point, torch.zeros_like(self._point)))
        self._worker, self._places = worker, places
        self._slices = [slice(place.start, place.stop) for place in places] or [slice(0, size)]

    def up(self) -> tuple[str, int]:
        """Ready: on which machine, and in which process."""
        return this_machine(), os.getpid()

    def compute(
        self,
        numbers: Sequence[int],
        stream: tuple[int | None, Sequence[Boxed], bool],
        buffers: Mapping[str, Boxed],
        *points: Boxed,
    ) -> Answer:
        """From a ticket to its answer; ``points`` slice by slice."""
        got, device = time.monotonic(), self.bench.plan.device
        number, memory, reset = stream
        for where, part in zip(self._slices, points, strict=True):
            self._point[where].copy_(opened(part))
        # Copies, for a model may write to its memory.
        start = Start(number, tuple(opened(part, device).clone() for part in memory), reset)
        given = {name: opened(box, device) for name, box in buffers.items()}
        computed, times = self.bench.compute(numbers, self._point, given, start, got)
        return Answer(
            numbers[0],
            computed.loss,
            None if self._places else boxed(computed.gradient),
            self._staged(numbers[0], computed.gradient) if self._places else None,
            {name: boxed(value) for name, value in computed.buffers.items()},
            tuple(boxed(part) for part in computed.memory),
            times,
        )

    def _staged(self, number: int, gradient: Tensor) -> bool:
        """At all servers at once; whether it is finite everywhere."""
        import ray

        calls = [
            place.server.stage.remote(self._worker, number, boxed(gradient[where]))
            for place, where in zip(self._places, self._slices, strict=True)
        ]
        return all(ray.get(calls))
