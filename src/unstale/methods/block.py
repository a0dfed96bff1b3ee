"""What a method's equations read and what they answer.

Equations are pure functions of a `Block`: a slice of every vector, and 0-d tensors for every number. They never see
the whole model, so the same lines run on one cache-sized block, over the whole vector, or on one shard of a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

__all__ = ["Block", "Kind", "State", "Step", "Writes", "per_worker", "scalar", "vector"]

Kind = Literal["scalar", "vector", "per_worker"]
Writes = Mapping[str, Tensor]


@dataclass(frozen=True)
class State:
    """A number or vector that a part keeps between pushes; the server allocates it.

    ``initial`` is a number, or ``"params"`` for a copy of θ₀. ``sum_of`` names a per-worker state whose sum over all
    workers this vector always is. The server sees to that, S ← S + v_i − v_i(old), when workers push, leave and join.
    """

    kind: Kind
    initial: float | Literal["params"] = 0.0
    sum_of: str | None = None


def scalar(initial: float = 0.0) -> State:
    """One number, kept in float64."""
    return State("scalar", initial)


def vector(initial: float | Literal["params"] = 0.0, *, sum_of: str | None = None) -> State:
    """(d,) elements, shared by all workers."""
    return State("vector", initial, sum_of)


def per_worker(initial: float | Literal["params"] = 0.0) -> State:
    """(d,) elements for each worker; an equation sees the row of the worker whose push it handles."""
    return State("per_worker", initial)


class Block:
    """One slice of everything an equation may read; attributes only.

    Vectors, (b,): ``theta`` θ, ``sent`` w_i, ``grad`` g, every declared state by its name, and what a part asks for in
    ``needs``: ``drift`` θ − w_i, ``average_step`` C, ``prediction`` (the point that would be sent now).
    Numbers, float64 (): ``lr`` η of this push, ``lr_max`` η_max, ``lr_last`` η of the push before, ``delay`` τ,
    ``updates`` n = t, ``workers`` N (those alive), ``count`` gradients in the gather, ``decay`` λ; and the fields that
    another part ``gives``, as plain floats.
    """

    def __init__(self, values: Mapping[str, Tensor | float]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Tensor:
        # Only reached for a name that was not set.
        raise AttributeError(f"an equation reads {name!r}, but no part declares it as state or lists it in `needs`")

    def replaced(self, writes: Mapping[str, Tensor]) -> Block:
        """The same block after ``writes``."""
        return Block({**self.__dict__, **writes})


@dataclass(frozen=True)
class Step:
    """What an update answers: the change of θ, its velocity, and its new state.

    Statistics watch one or the other: the change contains η, the velocity is the momentum or direction without it.
    """

    change: Tensor
    velocity: Tensor
    writes: Writes = field(default_factory=dict)
