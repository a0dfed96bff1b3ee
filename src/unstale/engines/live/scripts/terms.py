"""What a server that waits for scripts is told: everything but the model, which they bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from unstale import checks, kernels, schedules
from unstale.buffers import Policy
from unstale.describe import Plain, describe
from unstale.errors import ArgumentError
from unstale.flat import Group
from unstale.kernels import Executor
from unstale.methods import Method
from unstale.server import NonFinite, Server

__all__ = ["Terms"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Its arguments are those of `unstale.serve`."""

    method: Method
    workers: int = 1
    lr: float | schedules.Recipe | Callable[[float], float] = 0.1
    weight_decay: float = 0.0
    groups: Sequence[Group] = ()
    epochs: float | None = None
    batches_per_epoch: int | None = None
    batch_norm: Policy = "shared"
    on_nonfinite: NonFinite = "reject"
    executor: str | Executor = "auto"

    def __post_init__(self) -> None:
        checks.whole("workers", self.workers, 1)
        if self.epochs is not None:
            checks.positive("epochs", self.epochs)
            if self.batches_per_epoch is None:
                raise ArgumentError(
                    f"batches_per_epoch must be given with epochs, got epochs={self.epochs:g} alone; pass the length "
                    "of one worker's loader over all data"
                )
        elif isinstance(self.lr, schedules.Recipe) and (self.lr.warmup or self.lr.decay != "constant"):
            raise ArgumentError("lr must be a number where epochs is not given, got a Recipe; pass epochs")
        # The server looks at all others when it is made: better now than when the first script comes.
        self._server(torch.zeros(1), workers=1, groups=())

    @property
    def per_epoch(self) -> int:
        """Batches that make one epoch of progress."""
        return 1 if self.batches_per_epoch is None else self.batches_per_epoch

    @property
    def pushes(self) -> int | None:
        """Batches to accept in all; None: no end."""
        return None if self.epochs is None else max(1, round(self.epochs * self.per_epoch))

    @cached_property
    def schedule(self) -> schedules.Schedule:
        """η as a function of progress."""
        return schedules.as_schedule(self.lr, self.workers, self.epochs or 1.0)

    def server(self, module: nn.Module) -> Server:
        """The server of such a model."""
        return self._server(module, self.workers, self.groups)

    def _server(self, params: nn.Module | torch.Tensor, workers: int, groups: Sequence[Group]) -> Server:
        return Server(
            params,
            self.method,
            workers,
            lr=self.schedule,
            weight_decay=self.weight_decay,
            groups=groups,
            on_nonfinite=self.on_nonfinite,
            batch_norm=self.batch_norm,
            batches=self.pushes,
            batches_per_epoch=self.per_epoch,
            executor=self.executor if self.pushes is None else kernels.for_run(self.executor, self.pushes),
        )

    def describe(self) -> dict[str, Plain]:
        """As JSON values."""
        return {name: describe(getattr(self, name)) for name in self.__dataclass_fields__}
