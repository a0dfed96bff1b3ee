"""Who computes the gradients, and when they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from unstale import checks
from unstale.callbacks import Callback
from unstale.engines.base import Plan
from unstale.engines.gradients import Strategy
from unstale.engines.live import Live, LiveRun, conducted, launch_processes, launch_ray
from unstale.engines.simulate import simulate
from unstale.errors import ArgumentError
from unstale.methods import Method, get
from unstale.record import Run
from unstale.tasks import Task

__all__ = ["ENGINES", "Live", "LiveRun", "Plan", "Strategy", "carried_out", "launch", "simulate", "train"]

LAUNCHERS: dict[str, Callable[[Plan, Live, tuple[Callback, ...]], LiveRun]] = {
    "processes": launch_processes,
    "ray": launch_ray,
}
ENGINES = ("simulate", *LAUNCHERS)


def train(
    task: Task,
    method: str | Method = "dana_ga",
    workers: int = 1,
    *,
    engine: str = "simulate",
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    **plan: Any,
) -> Run:
    """Train a task with a method on so many workers.

    task: such as ``unstale.tasks.digits()``, or your own `Task`.
    method: a published method's name, or a `Method`.
    workers: how many, N ≥ 1.
    engine: "simulate"; "processes": real workers on this machine; "ray": on a Ray cluster.
    callbacks: see `Callback`; progress: show a progress bar on standard error.

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

    Raises `ArgumentError` for an argument that breaks a rule; `Interrupted`, carrying the run so far, on Ctrl-C.
    """
    checks.choice("engine", engine, ENGINES)
    chosen, live, watching = _arranged("train", task, method, workers, callbacks, plan, progress=progress)
    return carried_out(chosen, engine, live, watching)


def carried_out(plan: Plan, engine: str, live: Live, callbacks: tuple[Callback, ...] = ()) -> Run:
    """Run a plan on an engine; ``live`` is for real workers only. Raises as `train`."""
    checks.choice("engine", engine, ENGINES)
    if engine != "simulate":
        return conducted(LAUNCHERS[engine](plan, live, callbacks))
    for name in Live.__dataclass_fields__:
        if getattr(live, name) != getattr(Live(), name):
            raise ArgumentError(f"{name} is for real workers, but engine is 'simulate'; leave it out")
    return simulate(plan, callbacks)


def launch(
    task: Task,
    method: str | Method = "dana_ga",
    workers: int = 1,
    *,
    engine: str = "processes",
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
    **plan: Any,
) -> LiveRun:
    """Start training on real workers, and answer at once: a `LiveRun` to look at, to scale, to stop, and to wait for.

    Arguments as for `train`, which is ``launch(…).result()`` with signals handled.
    """
    checks.choice("engine", engine, LAUNCHERS)
    chosen, live, watching = _arranged("launch", task, method, workers, callbacks, plan, progress=progress)
    return LAUNCHERS[engine](chosen, live, watching)


def _arranged(
    name: str,
    task: Task,
    method: str | Method,
    workers: int,
    callbacks: Sequence[Callback],
    arguments: dict[str, Any],
    *,
    progress: bool,
) -> tuple[Plan, Live, tuple[Callback, ...]]:
    """What is to be done, how, and who looks on."""
    hows, whats = Live.__dataclass_fields__, Plan.__dataclass_fields__
    unknown = sorted(set(arguments) - {*hows, *whats})
    if unknown:
        known = ", ".join(sorted({*hows, *whats}))
        raise ArgumentError(f"{name}() has no argument {unknown[0]!r}; it takes {known}, engine, callbacks, progress")
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise ArgumentError(f"callbacks must be a list of Callback, got {callbacks!r}; put it into one")
    strangers = [callback for callback in callbacks if not isinstance(callback, Callback)]
    if strangers:
        raise ArgumentError(f"callbacks must be a list of Callback, got {strangers[0]!r} in it")
    what = {key: value for key, value in arguments.items() if key in whats}
    how = {key: value for key, value in arguments.items() if key in hows}
    plan, live = Plan(task=task, method=get(method), workers=workers, **what), Live(**how)
    if progress:
        from unstale.progress import ProgressBar

        callbacks = (*callbacks, ProgressBar())
    return plan, live, tuple(callbacks)
