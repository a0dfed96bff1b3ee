"""Runs a method's programs on a server's memory: the numbers they read, the states they write, the figures they tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unstale import kernels
from unstale.flat import Layout
from unstale.measure import figures
from unstale.memory import REFRESH, Memory
from unstale.methods.block import Block
from unstale.methods.steps import Program, Steps

__all__ = ["Stepper"]

NUMBERS = ("lr", "lr_max", "lr_last", "delay", "updates", "workers", "count", "decay")
SCALED = ("lr", "lr_max", "lr_last")


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
        kept = method.states | (getattr(method.scale, "state", {}) if steps.tracked else {})
        self.memory = memory(params, kept, keep_points="sent" in steps.needs)
        self._executor = executor
        # Programs see numbers as 0-d tensors, filled anew for each push, so nothing is compiled again when they change.
        self._host = torch.zeros(len(layout.spans), len(NUMBERS), dtype=torch.float64)
        self._filled = self._host.numpy()
        self._filled[:, NUMBERS.index("decay")] = [span.weight_decay for span in layout.spans]
        self._scales = [span.lr_scale for span in layout.spans]
        self._table = self._host.to(params.device)
        self._scalars = [dict(zip(NUMBERS, row.unbind(), strict=True)) | method.gives for row in self._table]

    def point(self, worker: int, workers: int) -> Tensor:
        """The point that ``worker`` gets now, along the η of the latest push."""
        target = self.memory.point(worker)
        self._fill(lr=self.lr_last, workers=workers)
        self._run(self.steps.reply, worker, {"sent": target})
        return target

    def push(
        self, worker: int, gradient: Tensor, *, delay: int, lr: float, workers: int, count: int, update: bool, reply: bool
    ) -> tuple[dict[str, Any], Tensor | None]:
        """Take a gradient in: into θ if it makes an ``update``, else into the gather.

        ``lr`` is the scheduled η; ``count`` gradients are gathered, this one included. With ``reply``, the worker's
        next point is written in the same pass. Answers the receipt's figures, and that point.
        """
        self.lr_max = max(self.lr_max, lr)
        rate = self._fill(lr=lr, delay=delay, workers=workers, count=count)
        program = self.steps.hold
        if update:
            program = self.steps.apply_and_reply if reply else self.steps.apply
        arrays = {"grad": gradient}
        if self.memory.keep_points:
            arrays["sent"] = self.memory.points[worker]
        elif reply:
            arrays["sent"] = self.memory.point(worker)
        sums = self._run(program, worker, arrays)
        told = figures(sums, self.layout.size, self.version)
        self.lr_last = rate
        if update:
            self._updated()
        return told, arrays["sent"] if update and reply else None

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
        numbers = {"lr": lr, "lr_max": self.lr_max, "lr_last": self.lr_last, "delay": delay}
        numbers |= {"updates": self.version, "workers": workers, "count": count}
        scalars = Block({name: torch.tensor(float(value), dtype=torch.float64) for name, value in numbers.items()})
        numbers["lr"] = rate = float(self.steps.method.step_size.rate(scalars))
        for row, scale in zip(self._filled, self._scales, strict=True):
            row[: len(numbers)] = [value * scale if name in SCALED else value for name, value in numbers.items()]
        if self._table is not self._host:
            self._table.copy_(self._host, non_blocking=False)
        return rate

    def _run(self, program: Program, worker: int, arrays: Mapping[str, Tensor]) -> dict[str, float]:
        operands = kernels.Operands(
            {**self.memory.arrays(worker), **arrays}, list(zip(self.layout.spans, self._scalars, strict=True))
        )
        over = self.steps.method.penalty.over
        if over != "element" and "grad" in arrays:
            operands.arrays |= kernels.norms(self.steps.norms, operands, self.layout.layers, over)
        return self._executor.run(program, operands)

    def state_dict(self) -> dict[str, Any]:
        """Copies of all tensors, and plain values."""
        numbers = {"version": self.version, "lr_max": self.lr_max, "lr_last": self.lr_last}
        return {"memory": self.memory.state_dict(), **numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.memory.load_state_dict(state["memory"])
        self.version, self.lr_max, self.lr_last = state["version"], state["lr_max"], state["lr_last"]
