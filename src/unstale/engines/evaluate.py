"""Score θ on the test set, with the buffers that the batch-norm policy gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unstale.buffers import RUNNING
from unstale.nested import converted
from unstale.server import Server
from unstale.tasks import Evaluation, Task

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Evaluator"]

# Enough for the mean of batch statistics to settle, and bounded for large data.
RECALIBRATION_BATCHES = 64


class Evaluator:
    """Evaluates a server's θ, never a predicted point, in a module of its own."""

    def __init__(self, plan: Plan, module: nn.Module) -> None:
        self.plan = plan
        self.module = module
        self._task: Task = plan.task

    def prepare(self, server: Server) -> None:
        """Put θ and the buffers that belong to it into the module."""
        server.load_into(self.module)
        if server.buffers.policy == "recalibrate" and server.buffers.has_running_statistics:
            self._recalibrate()

    def __call__(self, server: Server) -> Evaluation:
        """Loss and score on the test set."""
        self.prepare(server)
        if self.plan.dtype == torch.float32:
            return self._task.evaluate(self.module, self.plan.device)
        with _casting(self.module, self.plan.dtype):
            return self._task.evaluate(self.module, self.plan.device)

    @torch.no_grad()
    def _recalibrate(self) -> None:
        """Running statistics as the plain mean over the first batches of the first epoch, at θ; the module trains."""
        norms = [m for m in self.module.modules() if getattr(m, RUNNING[0], None) is not None]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()  # type: ignore[operator]
            norm.momentum = None  # type: ignore[assignment]
        for number in range(min(self.plan.batches.per_epoch, RECALIBRATION_BATCHES)):
            batch = self._task.batch(self.plan.batches.indices(number), self.plan.device)
            self._task.loss_of(self.module, converted(batch, self.plan.dtype))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


class _casting:  # noqa: N801  (a context manager, used like a function)
    """Test inputs come in float32; the module may be of another dtype."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._handle = module.register_forward_pre_hook(
            lambda _, inputs, named: (converted(inputs, dtype), converted(named, dtype)), with_kwargs=True
        )

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        self._handle.remove()


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a module's parameters and buffers, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
