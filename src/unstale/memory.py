"""What a server keeps between pushes: θ, every state that the parts declare, and the points it sent."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from unstale import placing
from unstale.errors import ArgumentError
from unstale.methods.block import State

__all__ = ["Memory"]

# In float32 a running sum never forgets its rounding errors, so it is made anew after this many updates.
REFRESH = 4096


class Memory:
    """Vectors of d elements by name, one row per worker where a part asks for it.

    ``theta`` is θ. It and all states are kept in float32 at least: bfloat16 and float16 parameters get master copies.
    So are ``points``, each worker's sent point, if ``keep_points``: a gap is far smaller than the rounding of bfloat16.
    """

    def __init__(
        self, params: Tensor, states: Mapping[str, State], workers: Iterable[int], *, keep_points: bool
    ) -> None:
        self.dtype = params.dtype
        workers = list(workers)
        _check_size(params, states, len(workers), keep_points)
        self.states = states
        self.keep_points = keep_points
        # Half precision cannot carry running means of squares.
        like = params.detach().float() if params.element_size() < 4 else params.detach()
        self._places = {name: place for place, name in enumerate(["theta", *states])}
        self.theta = self._copy("theta", like)
        self._initial = self.theta.clone() if any(s.initial == "params" for s in states.values()) else None
        self.shared = {name: self._new(name) for name, state in states.items() if state.kind != "per_worker"}
        self.rows: dict[int, dict[str, Tensor]] = {}
        self.points: dict[int, Tensor] = {}
        # Where each worker's points must lie, (d,) of θ's dtype: memory that an engine shares with a worker's process.
        self.places: Callable[[int], Tensor] | None = None
        self._spare: list[Tensor] = []
        self._holders: Counter[int] = Counter()  # by the point's identity
        for worker in workers:
            self.rows[worker] = self._row()
        self.refresh_sums()

    def _copy(self, name: str, value: Tensor) -> Tensor:
        """Of a vector, where that of this name lies in its page."""
        return placing.empty(value, self._places.get(name, placing.POINT)).copy_(value)

    def _new(self, name: str) -> Tensor:
        state = self.states[name]
        if state.kind == "scalar":
            return torch.tensor(state.initial, dtype=torch.float64, device=self.theta.device)
        if state.initial == "params":
            assert self._initial is not None
            return self._copy(name, self._initial)
        return placing.empty(self.theta, self._places[name]).fill_(state.initial)

    def move(self, params: Tensor) -> None:
        """Put θ elsewhere."""
        self.theta.copy_(params.detach())

    def join(self, worker: int) -> None:
        """Rows for a new worker."""
        self.rows[worker] = self._row()
        self.refresh_sums()

    def _row(self) -> dict[str, Tensor]:
        return {name: self._new(name) for name, state in self.states.items() if state.kind == "per_worker"}

    def leave(self, worker: int) -> None:
        """Forget a worker's rows: S ← S − v_i, v_i ← 0; summed anew, for a v_i that is NaN does not subtract."""
        del self.rows[worker]
        self._release(worker)
        self.refresh_sums()

    def refresh_sums(self) -> None:
        """Make every running sum anew from its addends, in the order of the workers."""
        for name, state in self.states.items():
            if state.sum_of is not None:
                self.shared[name].zero_()
                for worker in sorted(self.rows):
                    self.shared[name] += self.rows[worker][state.sum_of]

    def point(self, worker: int) -> Tensor:
        """Where to write the next point of ``worker``: over its last one, unless others were sent that too."""
        if self.places is not None:
            return self.places(worker)
        if not self.keep_points:
            return placing.empty(self.theta, placing.POINT)
        own = self.points.get(worker)
        if own is not None and self._holders[id(own)] == 1:
            return own
        return self._spare.pop() if self._spare else placing.empty(self.theta, placing.POINT)

    def send(self, worker: int, point: Tensor) -> None:
        """``point`` is what ``worker`` has now; a snapshot that nobody has any more is kept to be written over."""
        if self.keep_points and self.points.get(worker) is not point:
            self._release(worker)
            self.points[worker] = point
            self._holders[id(point)] += 1

    def _release(self, worker: int) -> None:
        point = self.points.pop(worker, None)
        if point is None:
            return
        self._holders[id(point)] -= 1
        if not self._holders[id(point)]:
            del self._holders[id(point)]
            if not self._spare:
                self._spare.append(point)

    def handed(self, point: Tensor) -> Tensor:
        """A point as the worker gets it, in the parameters' own dtype: the same memory where that is θ's dtype too."""
        return point.detach().to(self.dtype)

    def arrays(self, worker: int) -> dict[str, Tensor]:
        """All vectors that a program run for ``worker`` may touch, by name."""
        return {"theta": self.theta, **self.shared, **self.rows.get(worker, {})}

    def state_dict(self) -> dict[str, Any]:
        """Copies of all tensors; of a point that several workers have, one."""
        points = {id(point): point.clone() for point in self.points.values()}
        return {
            "theta": self.theta.clone(),
            "shared": {name: value.clone() for name, value in self.shared.items()},
            "rows": {str(w): {name: v.clone() for name, v in rows.items()} for w, rows in self.rows.items()},
            "points": {str(w): points[id(point)] for w, point in self.points.items()},
            "initial": None if self._initial is None else self._initial.clone(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over copies of a saved state, on this memory's device."""
        self.theta.copy_(state["theta"])
        for name, value in state["shared"].items():
            self.shared[name].copy_(value)
        like = self.theta
        self.rows = {
            int(w): {n: self._copy(n, v.to(like)) for n, v in rows.items()} for w, rows in state["rows"].items()
        }
        points = {id(point): self._copy("sent", point.to(like)) for point in state["points"].values()}
        self.points, self._spare = {int(w): points[id(point)] for w, point in state["points"].items()}, []
        self._holders = Counter(map(id, self.points.values()))
        self._initial = None if state["initial"] is None else state["initial"].to(like).clone()


def _check_size(params: Tensor, states: Mapping[str, State], workers: int, keep_points: bool) -> None:
    """Say so now if what is to be kept cannot fit into this machine, rather than be killed for it later."""
    if params.device.type != "cpu" or not hasattr(os, "sysconf"):
        return
    rows = sum(state.kind == "per_worker" for state in states.values()) + keep_points
    vectors = 1 + sum(state.kind == "vector" for state in states.values()) + rows * workers
    needed = vectors * params.numel() * max(params.element_size(), 4)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ArgumentError(
            f"workers must be few enough to fit, got {workers}; {vectors:,} vectors of {params.numel():,} elements "
            f"take {needed / 2**30:,.0f} GiB, and this machine has {there / 2**30:,.0f}"
        )
