"""Who computes the gradients, and when they arrive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unstale import checks
from unstale.callbacks import Callback
from unstale.checkpoint import Checkpoints
from unstale.engines.arrange import Arranged, arranged
from unstale.engines.base import Plan
from unstale.engines.gradients import Strategy
from unstale.engines.live import Live, LiveRun, conducted, launch_processes, launch_ray
from unstale.engines.simulate import simulate
from unstale.methods import Method, get
from unstale.record import Run
from unstale.tasks import Task

__all__ = ["ENGINES", "Arranged", "Live", "LiveRun", "Plan", "Strategy", "carried_out", "launch", "simulate", "train"]

LAUNCHERS: dict[str, Callable[[Arranged], LiveRun]] = {"processes": launch_processes, "ray": launch_ray}
ENGINES = ("simulate", *LAUNCHERS)


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
    engine: "simulate"; "processes": real workers on this machine; "ray": on a Ray cluster.
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

    And with real workers (`Live`): patience: what is done about those that fail. record: a folder for the log of
    events. threads: of torch, in each. devices: where they compute, in turns. pace: a clock, in seconds, that says how
    long each gradient takes at least. With "ray": address, servers, resources_per_worker.

    Raises `ArgumentError` for an argument that breaks a rule; `StoreError` for a folder that cannot be used, or has no
    checkpoint to resume; `Interrupted`, carrying the run so far, on Ctrl-C.
    """
    checks.choice("engine", engine, ENGINES)
    given = {"task": task, "method": get(method), "workers": workers, **plan}
    watched: dict[str, Any] = {"callbacks": callbacks, "progress": progress}
    found = arranged("train", given, **watched, checkpoints=checkpoints, resume=resume)
    return carried_out(engine, found)


def carried_out(engine: str, what: Arranged) -> Run:
    """Run what is arranged on an engine. Raises as `train`."""
    checks.choice("engine", engine, ENGINES)
    if engine in LAUNCHERS:
        return conducted(LAUNCHERS[engine](what))
    what.live.refuse(Live.__dataclass_fields__, "real workers", engine)
    return simulate(what.plan, what.callbacks, checkpoints=what.checkpoints, resume=what.resume)


def launch(
    task: Task,
    method: str | Method = "dana_ga",
    workers: int = 1,
    *,
    engine: str = "processes",
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    checkpoints: Checkpoints | None = None,
    resume: str | Path | None = None,
    **plan: Any,
) -> LiveRun:
    """Start training on real workers, and answer at once: a `LiveRun` to look at, to scale, to stop, and to wait for.

    Arguments as for `train`, which is ``launch(…).result()`` with signals handled.
    """
    checks.choice("engine", engine, LAUNCHERS)
    given = {"task": task, "method": get(method), "workers": workers, **plan}
    watched: dict[str, Any] = {"callbacks": callbacks, "progress": progress}
    return LAUNCHERS[engine](arranged("launch", given, **watched, checkpoints=checkpoints, resume=resume))
