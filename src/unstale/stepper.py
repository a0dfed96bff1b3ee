"""Runs a method's programs on a server's memory: numbers it reads, states it writes, figures it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstale import kernels
from unstale.flat import Layout
from unstale.measure import figures
from unstale.memory import REFRESH, Memory
from unstale.methods.block import Block
from unstale.methods.steps import Program, Steps

__all__ = ["Stepper"]

NOWHERE: Mapping[str, Tensor] = MappingProxyType({})
# The first three are scaled by a span's lr_scale, the last is its own.
NUMBERS = ("lr", "lr_max", "lr_last", "delay", "updates", "workers", "count", "decay")


class Stepper:
    """One method at work on one memory. ``version`` counts the updates applied."""

    def __init__(
        self, steps: Steps, layout: Layout, executor: kernels.Executor, memory: Callable[..., Memory], params: Tensor
    ) -> None:
        self.steps = steps
        self.layout = layout
        self.version = 0
        self.lr_max = self.lr_last = 0.0
        method = steps.method
        self.memory = memory(params, steps.states, keep_points="sent" in steps.needs)
        self._executor = executor
        # The version that the latest snapshot is of, it, and how often it was written to: who pulls at the same
        # version gets the same one.
        self._latest: tuple[int, Tensor, int] | None = None
        self._same_for_all = self.memory.keep_points and getattr(method.predict, "same_for_all", False)
        # Programs see numbers as 0-d views of a table that is filled anew for each push: one row per span, and a first
        # one, without the spans' scales, for the method's step size.
        self._host = torch.zeros(1 + len(layout.spans), len(NUMBERS), dtype=torch.float64)
        self._filled = self._host.numpy()
        self._factors = np.ones(self._filled.shape)
        self._factors[1:, :3] = [[span.lr_scale] for span in layout.spans]
        self._factors[:, -1] = [0.0, *(span.weight_decay for span in layout.spans)]
        self._table = self._host.to(params.device)
        self._plain = Block(dict(zip(NUMBERS, self._host[0].unbind(), strict=True)))
        rows = [dict(zip(NUMBERS, row.unbind(), strict=True)) | method.gives for row in self._table[1:]]
        self._spans = list(zip(layout.spans, rows, strict=True))

    def point(self, worker: int, workers: int) -> Tensor:
        """The point that ``worker`` gets now, along the η of the latest push, as it gets it."""
        target = self._snapshot()
        if target is None:
            target = self.memory.point(worker)
            self._fill(lr=self.lr_last, workers=workers)
            self._run(self.steps.reply, worker, {"sent": target})
        return self._sent(worker, target)

    def _sent(self, worker: int, point: Tensor) -> Tensor:
        """Note who has which point; answers it as the worker gets it."""
        self.memory.send(worker, point)
        shared = self._same_for_all and self.memory.places is None
        self._latest = (self.version, point, point._version) if shared else None
        return self.memory.handed(point)

    def moved(self) -> None:
        """θ or a sum changed without a push: what was sent at this version is not what would be sent now."""
        self._latest = None

    def push(
        self,
        worker: int,
        gradient: Tensor,
        *,
        delay: int,
        lr: float,
        workers: int,
        count: int,
        update: bool,
        reply: bool,
    ) -> tuple[dict[str, Any], Tensor | None]:
        """Take a gradient in: into θ if it makes an ``update``, else into the gather.

        ``lr`` is the scheduled η; ``count`` gradients are gathered, this one included. With ``reply``, the worker's
        next point is written in the same pass. Answers the receipt's figures, and that point.
        """
        updates = self.version
        about: dict[str, Any] = {"delay": delay, "lr": lr, "workers": workers, "count": count}
        sums, point = self.step(worker, gradient, **about, update=update, reply=reply)
        return figures(sums, self.layout.size, updates), point

    def step(
        self,
        worker: int,
        gradient: Tensor,
        *,
        delay: int,
        lr: float,
        workers: int,
        count: int,
        update: bool,
        reply: bool,
    ) -> tuple[dict[str, float], Tensor | None]:
        """`push`, answering the bare sums over these elements."""
        self.lr_max = max(self.lr_max, lr)
        rate = self._fill(lr=lr, delay=delay, workers=workers, count=count)
        program = self.steps.hold
        if update:
            program = self.steps.apply_and_reply if reply else self.steps.apply
        target = self.memory.point(worker) if reply else None
        sent = self.memory.points.get(worker, target)
        arrays = {"grad": gradient} if sent is None else {"grad": gradient, "sent": sent}
        sums = self._run(program, worker, arrays, {} if target is None or target is sent else {"sent": target})
        self.lr_last = rate
        if update:
            self._updated()
        return sums, None if target is None else self._sent(worker, target)

    def flush(self, *, workers: int, count: int) -> None:
        """Make an update of what waits in the gather."""
        self._fill(lr=self.lr_last, workers=workers, count=count)
        self._run(self.steps.flush, -1, {})
        self._updated()

    def _updated(self) -> None:
        self.version += 1
        if self.version % REFRESH == 0:
            self.memory.refresh_sums()

    def _fill(self, *, lr: float, workers: int, delay: int = 0, count: int = 1) -> float:
        """Set the numbers that the programs read; answers η after the method's step size had its say."""
        numbers = (lr, self.lr_max, self.lr_last, delay, self.version, workers, count, 1.0)
        np.multiply(self._factors, numbers, out=self._filled)
        rate = float(self.steps.method.step_size.rate(self._plain))
        if rate != lr:
            self._filled[:, 0] = self._factors[:, 0] * rate
        if self._table is not self._host:
            self._table.copy_(self._host)
        return rate

    def _run(
        self, program: Program, worker: int, arrays: Mapping[str, Tensor], into: Mapping[str, Tensor] = NOWHERE
    ) -> dict[str, float]:
        operands = kernels.Operands({**self.memory.arrays(worker), **arrays}, self._spans, into)
        over = self.steps.method.penalty.over
        if over != "element" and "grad" in arrays:
            operands.arrays |= kernels.norms(self.steps.norms, operands, self.layout.layers, over)
        return self._executor.run(program, operands)

    def state_dict(self) -> dict[str, Any]:
        """Copies of all tensors, and plain values."""
        return {
            "memory": self.memory.state_dict(),
            "version": self.version,
            "lr_max": self.lr_max,
            "lr_last": self.lr_last,
            "latest": self._holder(),
            "executor": getattr(self._executor, "state_dict", dict)(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.memory.load_state_dict(state["memory"])
        self.moved()
        self.version, self.lr_max, self.lr_last = state["version"], state["lr_max"], state["lr_last"]
        if state["latest"] is not None:
            point = self.memory.points[state["latest"]]
            self._latest = (self.version, point, point._version)
        if hasattr(self._executor, "load_state_dict"):
            self._executor.load_state_dict(state["executor"])

    def _snapshot(self) -> Tensor | None:
        """The point of this version, if it was sent already; not if a worker wrote over it, against the rules."""
        version, point, written = self._latest or (-1, None, 0)
        return point if point is not None and version == self.version and point._version == written else None

    def _holder(self) -> int | None:
        """A worker who has that."""
        snapshot = self._snapshot()
        return next((w for w, point in self.memory.points.items() if point is snapshot), None)
