"""A server whose vector of d elements is split over several places: one in each keeps a slice, and steps it.

Workers fetch their points from the shards and stage their gradients there, slice by slice. Tickets, order and
decisions stay with the one `ShardedServer`: it makes the same calls of every shard, in one order, and a gradient is
known to be finite everywhere before it is committed anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unstale import kernels
from unstale.errors import ArgumentError, GradientError
from unstale.flat import Layer, Layout
from unstale.measure import figures
from unstale.memory import Memory
from unstale.methods import Method
from unstale.methods.steps import Steps
from unstale.server import Server
from unstale.stepper import Stepper
from unstale.tickets import Ticket

__all__ = ["ShardedServer", "Shards", "Staged", "borders", "check_shards"]

ALIGNED = 64  # elements, as vector instructions like it


class Shards(Protocol):
    """All shards, in the order of their slices. Calls of one shard take effect in the order in which they are made."""

    def ask(self, name: str, arguments: Sequence[Sequence[Any]]) -> list[Any]:
        """Call each shard's method of that name with arguments of its own; their answers."""

    def step(self, name: str, *arguments: Any) -> list[tuple[dict[str, float], Any]]:
        """Call each shard's ``push`` or ``point``: its sums, and whatever a worker can be given to get its point."""


@dataclass(frozen=True)
class Staged:
    """A gradient that lies at the shards, and whether all of it is finite."""

    number: int
    finite: bool


def check_shards(method: Method, shards: int, size: int | None = None) -> None:
    """Refuse what cannot be split; ``size``: of the vector, if it is known."""
    if shards > 1 and method.penalty.over != "element":
        raise ArgumentError(
            f"servers must be 1 for method {method.name!r}, whose penalty takes norms over the {method.penalty.over}, "
            f"got {shards}; use a method that works element by element, such as 'dana_ga'"
        )
    if size is not None and shards > size:
        raise ArgumentError(f"servers must be at most the {size} parameters that there are, got {shards}; use fewer")


def borders(size: int, shards: int) -> list[tuple[int, int]]:
    """From where to where each shard's slice goes."""
    unit = ALIGNED if size >= ALIGNED * ALIGNED * shards else 1
    ends = [size * k // shards // unit * unit for k in range(shards)] + [size]
    return list(pairwise(ends))


class ShardedServer(Server):
    """A `Server` over ``shards``; it hands out tickets without points, and takes `Staged` gradients.

    ``make`` makes the shards, from the arguments of each (`unstale.shard.Shard`). All else is as with a `Server`.
    """

    def __init__(
        self, params: nn.Module, *given: Any, shards: int, make: Callable[[list[tuple[Any, ...]]], Shards], **named: Any
    ) -> None:
        self.stepper_type = partial(ShardedStepper, shards, make)
        super().__init__(params, *given, **named)

    @property
    def shards(self) -> Shards:
        """All of them."""
        assert isinstance(self._stepper, ShardedStepper)
        return self._stepper.shards

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """From where to where each shard's slice goes."""
        assert isinstance(self._stepper, ShardedStepper)
        return self._stepper.bounds

    def handles(self, worker: int) -> tuple[Any, ...]:
        """What `Shards.step` gave for the point that ``worker`` is to get, shard by shard."""
        assert isinstance(self._stepper, ShardedStepper)
        return self._stepper.handles[worker]

    def outstanding(self) -> tuple[Ticket, ...]:
        """None: pull again."""
        return ()

    def _taken(self, gradient: Any, buffers: Mapping[str, Tensor] | None) -> tuple[Any, Mapping[str, Tensor] | None]:
        if not isinstance(gradient, Staged):
            raise GradientError(f"gradient must be Staged at the shards, got {type(gradient).__name__}; stage it first")
        return gradient, buffers

    def _finite(self, gradient: Any) -> bool:
        finite: bool = gradient.finite
        return finite


class ShardedStepper(Stepper):
    """Makes the calls of a `Stepper` to every shard's."""

    def __init__(
        self,
        shards: int,
        make: Callable[[list[tuple[Any, ...]]], Shards],
        steps: Steps,
        layout: Layout,
        executor: kernels.Executor,
        memory: Callable[..., Memory],
        params: Tensor,
    ) -> None:
        check_shards(steps.method, shards, layout.size)
        self.steps, self.layout, self.version = steps, layout, 0
        self.bounds = borders(layout.size, shards)
        parts = [(steps, _part(layout, *b), executor, memory, params[b[0] : b[1]].clone()) for b in self.bounds]
        self.shards = make(parts)
        self.handles: dict[int, tuple[Any, ...]] = {}
        self.memory = ShardedMemory(self, params.dtype)

    def ask(self, name: str, *arguments: Any) -> list[Any]:
        """Call all shards with the same arguments."""
        return self.shards.ask(name, [arguments] * len(self.bounds))

    def ask_each(self, name: str, arguments: Sequence[Any]) -> list[Any]:
        """Call each shard with an argument of its own."""
        return self.shards.ask(name, [(argument,) for argument in arguments])

    def point(self, worker: int, workers: int) -> Tensor:
        """See `Stepper`; but the point stays at the shards."""
        return self._keep(worker, self.shards.step("point", worker, workers))

    def push(  # type: ignore[override]
        self, worker: int, gradient: Staged, *, reply: bool, update: bool, **about: Any
    ) -> tuple[dict[str, Any], Tensor | None]:
        """See `Stepper`; but the gradient is at the shards, and the point stays there."""
        told = self.shards.step("push", worker, gradient.number, {**about, "reply": reply, "update": update})
        sums = {name: sum(part[name] for part, _ in told) for name in told[0][0]}
        answer = figures(sums, self.layout.size, self.version)
        self.version += update
        return answer, self._keep(worker, told) if reply else None

    def flush(self, *, workers: int, count: int) -> None:
        """See `Stepper`."""
        self.ask("flush", workers, count)
        self.version += 1

    def moved(self) -> None:
        """The shards see to that."""

    def state_dict(self) -> dict[str, Any]:
        """As of a server that is not split."""
        state: dict[str, Any] = self.joined(self.ask("state_dict"))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, however the server was split that it is of."""
        self.ask_each("load_state_dict", [_cut(state, *bounds, self.layout.size) for bounds in self.bounds])
        self.version = state["version"]

    def joined(self, parts: Sequence[Any]) -> Any:
        """Slices put together, wherever they are in what the shards answered."""
        first = parts[0]
        if isinstance(first, Mapping):
            return {key: self.joined([part[key] for part in parts]) for key in first}
        lengths = [(stop - start,) for start, stop in self.bounds]
        if isinstance(first, Tensor) and [tuple(part.shape) for part in parts] == lengths:
            return torch.cat(list(parts))
        return first

    def _keep(self, worker: int, told: Sequence[tuple[Any, Any]]) -> Tensor:
        self.handles[worker] = tuple(handle for _, handle in told)
        return torch.empty(0, dtype=self.memory.dtype)


class ShardedMemory(Memory):
    """What the shards keep, put together anew each time it is asked for."""

    def __init__(self, stepper: ShardedStepper, dtype: torch.dtype) -> None:
        self._stepper, self.dtype = stepper, dtype
        self.states = stepper.steps.states
        self.keep_points = "sent" in stepper.steps.needs
        self.places = None

    def __getattr__(self, name: str) -> Any:
        """``theta``, ``shared``, ``rows`` and ``points``, as `Memory` has them."""
        if name == "theta":
            return self._stepper.joined(self._stepper.ask("theta"))
        if name not in ("shared", "rows", "points"):
            raise AttributeError(name)
        kept = self._stepper.state_dict()["memory"][name]
        return kept if name == "shared" else {int(worker): value for worker, value in kept.items()}

    def move(self, params: Tensor) -> None:
        """See `Memory`."""
        bounds = self._stepper.bounds
        self._stepper.ask_each("move", [params[start:stop].clone() for start, stop in bounds])

    def join(self, worker: int) -> None:
        """See `Memory`."""
        self._stepper.ask("join", worker)

    def leave(self, worker: int) -> None:
        """See `Memory`."""
        self._stepper.handles.pop(worker, None)
        self._stepper.ask("leave", worker)


def _part(layout: Layout, start: int, stop: int) -> Layout:
    """The layout of one slice."""
    spans = tuple(
        replace(span, start=max(span.start, start) - start, stop=min(span.stop, stop) - start)
        for span in layout.spans
        if span.start < stop and span.stop > start
    )
    whole = Layer(f"[{start}:{stop}]", 0, stop - start, torch.Size([stop - start]))
    return Layout(stop - start, (whole,), spans)


def _cut(state: Any, start: int, stop: int, size: int) -> Any:
    """One slice of every vector in a state."""
    if isinstance(state, Mapping):
        return {key: _cut(value, start, stop, size) for key, value in state.items()}
    if isinstance(state, Tensor) and state.shape == (size,):
        return state[start:stop].clone()
    return state
