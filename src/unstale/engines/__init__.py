"""Who computes the gradients, and when they arrive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unstale import checks
from unstale.callbacks import Callback
from unstale.checkpoint import Checkpoints
from unstale.engines.base import Engine, Plan
from unstale.engines.gradients import Strategy
from unstale.engines.simulate import simulate
from unstale.errors import ArgumentError
from unstale.methods import Method, get
from unstale.record import Run
from unstale.tasks import Task

__all__ = ["ENGINES", "Engine", "Plan", "Strategy", "simulate", "train"]

ENGINES: dict[str, Engine] = {"simulate": simulate}
_OWN = ("engine", "callbacks", "progress", "checkpoints", "resume")


def train(
    task: Task,
    method: str | Method = "dana_ga",
    workers: int = 1,
    *,
    engine: str = "simulate",
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    checkpoints: Checkpoints | None = None,
    resume: str | Path | None = None,
    **plan: Any,
) -> Run:
    """Train a task with a method on so many workers.

    task: such as ``unstale.tasks.digits()``, or your own `Task`.
    method: a published method's name, or a `Method`.
    workers: how many, N ≥ 1.
    engine: "simulate".
    callbacks: see `Callback`; progress: show a progress bar on standard error.
    checkpoints: where and how often to write what a run needs to go on; see `unstale.Checkpoints`.
    resume: a folder of checkpoints: go on from the newest whole one, and write more there. Everything else must be as
        it was then, and so is the run, to the bit: with its history from the start, and seconds that add up.

    And, by keyword (`Plan`):
    clock: how long a gradient takes (default ``Gamma(cv=0.1)``). lr: η, a `Recipe`, or a function of progress (epochs).
    epochs, batch_size, seed, weight_decay. decay_norm_and_bias: whether λ also acts on BatchNorm and biases.
    clip: the largest norm of a gradient, which its worker clips before it is pushed (default None: any).
    drop_last: leave out an epoch's last, smaller batch. eval_every: epochs between evaluations.
    batch_norm: "shared", "per-worker" or "recalibrate". on_nonfinite: "apply", "reject" or "raise".
    stop_on_divergence: stop at the first NaN or Inf. dtype, device.
    strategy: how gradients are computed: "auto" (measured, and told in ``run.config``), "sequential", "threads",
        "batched", with arguments as in "batched(lanes=8, threads=2)", or a `Strategy`.
    executor: how the server's steps are: "auto", "blocks", "compiled".
    precision: "full", "bf16" (forward passes) or "tf32" (CUDA). memory_format: "contiguous" or "channels_last".

    Raises `ArgumentError` for an argument that breaks a rule; `StoreError` for a folder that cannot be used, or has no
    checkpoint to resume; `Interrupted`, carrying the run so far, on Ctrl-C.
    """
    checks.choice("engine", engine, ENGINES)
    unknown = sorted(set(plan) - set(Plan.__dataclass_fields__))
    if unknown:
        known = ", ".join(sorted(Plan.__dataclass_fields__))
        raise ArgumentError(f"train() has no argument {unknown[0]!r}; it takes {known}, {', '.join(_OWN)}")
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise ArgumentError(f"callbacks must be a list of Callback, got {callbacks!r}; put it into one")
    strangers = [callback for callback in callbacks if not isinstance(callback, Callback)]
    if strangers:
        raise ArgumentError(f"callbacks must be a list of Callback, got {strangers[0]!r} in it")
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise ArgumentError(f"checkpoints must be unstale.Checkpoints('FOLDER'), or None, got {checkpoints!r}")
    if resume is not None and not isinstance(resume, str | Path):
        raise ArgumentError(f"resume must be a folder of checkpoints, or None, got {resume!r}")
    chosen = Plan(task=task, method=get(method), workers=workers, **plan)
    if progress:
        from unstale.progress import ProgressBar

        callbacks = (*callbacks, ProgressBar())
    folder = None if resume is None else Path(resume)
    return ENGINES[engine](chosen, tuple(callbacks), checkpoints=checkpoints, resume=folder)
