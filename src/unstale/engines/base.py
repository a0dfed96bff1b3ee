"""What every engine gets and gives: a plan goes in, a run comes out."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import get_args

import numpy as np
import torch

import unstale
from unstale import checks, flat, kernels, schedules
from unstale.buffers import Policy
from unstale.clocks import Clock, Gamma
from unstale.describe import Plain, describe
from unstale.engines.gradients.precision import MemoryFormat, Precision
from unstale.engines.gradients.strategy import AUTO, Strategy, strategy
from unstale.errors import ArgumentError
from unstale.kernels import Executor
from unstale.methods import Method
from unstale.server import NonFinite, Server
from unstale.tasks import Task
from unstale.tasks.batches import Numbered

__all__ = ["Plan"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides what a run will be. Its arguments are those of `unstale.train`."""

    task: Task
    method: Method
    workers: int = 1
    clock: Clock = field(default_factory=Gamma)
    lr: float | schedules.Recipe | Callable[[float], float] = 0.1
    epochs: float = 1.0
    batch_size: int = 32
    seed: int = 0
    weight_decay: float = 0.0
    clip: float | None = None
    decay_norm_and_bias: bool = True
    drop_last: bool = False
    eval_every: float = 1.0
    batch_norm: Policy = "shared"
    on_nonfinite: NonFinite = "apply"
    stop_on_divergence: bool = False
    strategy: str | Strategy = AUTO
    executor: str | Executor = "auto"
    precision: Precision = "full"
    memory_format: MemoryFormat = "contiguous"
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not isinstance(self.task, Task):
            raise ArgumentError(f"task must be a Task, such as unstale.tasks.digits(), got {type(self.task).__name__}")
        if not isinstance(self.clock, Clock):
            raise ArgumentError(
                f"clock must be a Clock, such as unstale.clocks.Gamma(), got {type(self.clock).__name__}"
            )
        # Kept as plain numbers: numpy's would make two configurations look different, or alike.
        for name in ("workers", "batch_size"):
            object.__setattr__(self, name, checks.whole(name, getattr(self, name), 1))
        object.__setattr__(self, "seed", checks.seed(self.seed))
        for name in ("epochs", "eval_every"):
            object.__setattr__(self, name, checks.positive(name, getattr(self, name)))
        object.__setattr__(self, "weight_decay", checks.nonnegative("weight_decay", self.weight_decay))
        if self.clip is not None:
            object.__setattr__(self, "clip", checks.positive("clip", self.clip))
        for name in ("drop_last", "decay_norm_and_bias", "stop_on_divergence"):
            checks.truth(name, getattr(self, name))
        checks.choice("batch_norm", self.batch_norm, get_args(Policy))
        checks.choice("on_nonfinite", self.on_nonfinite, get_args(NonFinite))
        if not isinstance(self.dtype, torch.dtype) or not self.dtype.is_floating_point:
            raise ArgumentError(f"dtype must be a floating-point torch.dtype, got {self.dtype!r}")
        _check_device(self.device)
        strategy(self.strategy)
        kernels.executor(self.executor)
        checks.choice("precision", self.precision, get_args(Precision))
        checks.choice("memory_format", self.memory_format, get_args(MemoryFormat))
        # Both look at their arguments when they are made: better now than after the data are loaded.
        assert self.batches.per_epoch
        assert callable(self.schedule)
        self._check_streams()

    def _check_streams(self) -> None:
        length = self.batches.per_stream
        if length is None or self.task.streams is None:
            return
        # A training of less than an epoch does not come to all of them.
        streams = min(self.task.streams, math.ceil(self.pushes / length))
        if self.workers > streams:
            raise ArgumentError(
                f"workers must be at most the {streams} streams that {self.epochs:g} epochs of task {self.task.name!r} "
                f"have, for each has one at a time, got {self.workers}; pass the task more streams"
            )

    @cached_property
    def batches(self) -> Numbered:
        """Which examples make batch number k."""
        return self.task.batches(self.batch_size, self.seed, self.drop_last)

    @cached_property
    def schedule(self) -> schedules.Schedule:
        """η as a function of progress."""
        return schedules.as_schedule(self.lr, self.workers, self.epochs)

    @property
    def pushes(self) -> int:
        """Batches to accept in all."""
        return max(1, round(self.epochs * self.batches.per_epoch))

    def next_evaluation(self, accepted: int) -> int:
        """How many batches will be accepted when θ is evaluated next: the least multiple of ``eval_every`` above."""
        step = self.eval_every * self.batches.per_epoch
        # Products of fractions fall short or over by their rounding, and must not skip or repeat a multiple.
        multiple = math.floor(accepted / step + 1e-9) + 1
        return max(accepted + 1, math.ceil(multiple * step - 1e-6))

    @property
    def groups(self) -> tuple[flat.Group, ...]:
        """Parameters with a weight decay of their own."""
        return () if self.decay_norm_and_bias else flat.decay_matrices_only()

    def layout(self, module: torch.nn.Module) -> flat.Layout:
        """Where each parameter lies in the server's vector."""
        return flat.Layout.of_module(module, self.groups, self.weight_decay)

    def server(self, module: torch.nn.Module, kind: Callable[..., Server] = Server) -> Server:
        """The server that this run talks to, of some kind."""
        return kind(
            module,
            self.method,
            self.workers,
            lr=self.schedule,
            weight_decay=self.weight_decay,
            groups=self.groups,
            on_nonfinite=self.on_nonfinite,
            batch_norm=self.batch_norm,
            batches=self.pushes,
            batches_per_epoch=self.batches.per_epoch,
            batches_per_stream=self.batches.per_stream,
            executor=kernels.for_run(self.executor, self.pushes),
        )

    def describe(self) -> dict[str, Plain]:
        """The configuration as JSON values: two runs with the same one, on one machine, are the same to the bit."""
        named = {name: describe(getattr(self, name)) for name in self.__dataclass_fields__}
        return {**named, "task": self.task.describe(), "dtype": str(self.dtype).removeprefix("torch.")}


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(
            f"device must be one that torch has here, such as 'cpu', got {device!r} ({reason})"
        ) from error


def versions() -> dict[str, Plain]:
    """What a run's last bits may depend on besides its plan."""
    return {
        "unstale": unstale.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
