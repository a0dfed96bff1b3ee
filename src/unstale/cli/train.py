"""``unstale train``: one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from unstale.cli.folder import check_free, finished_in, kept_in, needs_out, same_folder
from unstale.cli.options import CheckpointEvery, Json, Out, Quiet, Resume, Settings, takes_settings
from unstale.cli.output import examples
from unstale.cli.real import Address, Engine, MaxRestarts, Servers, Threads, live_options
from unstale.cli.run import carry_out, report
from unstale.disk import alone_with
from unstale.errors import ArgumentError

__all__ = ["EXAMPLES", "train"]

EXAMPLES = examples(
    "unstale train digits --method dana_ga --workers 32 --out runs/first",
    "unstale train digits --model resnet8 --method 'ga(per=layer)' --workers 16 --lr 0.05 --epochs 10",
    "unstale train digits --clock gamma --clock-option cv=0.3 --heterogeneity 0.6",
    "unstale train digits --engine processes --workers 4 --out runs/real",
    "unstale train digits --engine ray --workers 16 --servers 2 --address auto",
    "unstale train --resume runs/first",
)


@takes_settings
def train(
    settings: Settings,
    task: Annotated[str | None, typer.Argument(help="What to train: see `unstale tasks`.", show_default=False)] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="See `unstale methods`; dana_ga if not given.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", "-n", help="How many; 8 if not given.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the first weights, the order of the data, and the clock; 0 if not given.")
    ] = None,
    out: Out = None,
    checkpoint_every: CheckpointEvery = None,
    resume: Resume = None,
    engine: Engine = None,
    max_restarts: MaxRestarts = None,
    threads: Threads = None,
    address: Address = None,
    servers: Servers = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write scalars to OUT/tensorboard.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a task with one method: in simulated time, or with real workers.

    What is not given comes from the task's recipe: see `unstale tasks NAME`.

    With --out, a run that is interrupted or killed can go on: --resume. In simulated time it goes on to the same
    result; real workers' events are written to the folder while they work, and can be replayed.
    """
    from unstale.experiments.request import keep_request

    real = {"max_restarts": max_restarts, "threads": threads, "address": address, "servers": servers}
    words: dict[str, Any] = {"method": method, "workers": workers, "seed": seed}
    words |= {"engine": engine, "live": {name: value for name, value in real.items() if value is not None}}
    if resume is not None:
        words["live"] = words["live"] or None
        return _go_on(resume, settings, {"task": task, **words}, out, checkpoint_every, tensorboard, quiet, json)
    if task is None:
        raise ArgumentError("train must be given a task, such as digits, or --resume FOLDER; see `unstale tasks`")
    needs_out(out, checkpoint_every=checkpoint_every is not None, tensorboard=tensorboard)
    live_options(engine, settings, words["live"])
    made = settings.make_task(task)
    request = settings.request(task, made, **words)
    plan = request.plan(made)
    if out is not None:
        check_free(out)
    with alone_with(out):
        _, checkpoints = kept_in(out, checkpoint_every)
        if out is not None:
            keep_request(out, request)
        return carry_out(request, plan, out, checkpoints, None, tensorboard=tensorboard, quiet=quiet, json=json)


def _go_on(
    folder: Path,
    settings: Settings,
    words: Mapping[str, Any],
    out: Path | None,
    checkpoint_every: int | None,
    tensorboard: bool,
    quiet: bool,
    json: bool,
) -> None:
    """The rest of the run in ``folder``."""
    from unstale.describe import changes
    from unstale.experiments.request import request_of

    same_folder(out, folder)
    with alone_with(folder):
        if run := finished_in(folder, quiet or json):
            return report(run, folder, quiet, json)
        request = request_of(folder)
        for change in changes(request.describe(), settings.changed(request, **words).describe()):
            raise ArgumentError(f"--resume must go on with the settings of {folder}, but {change}; leave that out")
        plan = request.plan()
        kept, checkpoints = kept_in(folder, checkpoint_every)
        return carry_out(request, plan, folder, checkpoints, kept, tensorboard=tensorboard, quiet=quiet, json=json)
