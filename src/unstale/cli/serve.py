"""``unstale serve``: a server for scripts that connect."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from unstale.callbacks import Callback
from unstale.cli.folder import check_free, finished_in, kept_in, needs_out, same_folder
from unstale.cli.options import CheckpointEvery, Json, Out, Quiet, Resume, learning_rate
from unstale.cli.output import examples
from unstale.cli.run import Last, report
from unstale.disk import alone_with
from unstale.errors import ArgumentError, StoreError
from unstale.measure import VOID

__all__ = ["EXAMPLES", "serve"]

EXAMPLES = examples(
    "unstale serve --method dana_ga --lr 0.1 --epochs 10 --batches-per-epoch 390 --out runs/own",
    "unstale serve --method sync --workers 4 --address ./run/server.sock",
    "unstale serve --method dana_ga --address ray://digits --out runs/own",
    "unstale serve --resume runs/own",
)
_TOLD = (
    "method", "workers", "lr", "warmup", "decay", "decay_at", "decay_factor", "weight_decay", "epochs",
    "batches_per_epoch", "batch_norm", "on_nonfinite", "address",
)  # fmt: skip
_EVERY = 10.0  # seconds between lines

_Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        help="A path for its socket; or ray://NAME, on the Ray cluster of RAY_ADDRESS or of this machine.",
        metavar="ADDRESS",
        show_default=False,
    ),
]


def serve(
    context: typer.Context,
    method: Annotated[str, typer.Option("--method", "-m", help="See `unstale methods`.")] = "dana_ga",
    workers: Annotated[int, typer.Option("--workers", "-n", help="Begin when so many have come.")] = 1,
    lr: Annotated[float, typer.Option(help="One worker's learning rate.")] = 0.1,
    warmup: Annotated[float, typer.Option(help="Fraction of the training that warms up.")] = 0.0,
    decay: Annotated[str, typer.Option(help="steps, cosine or constant.")] = "constant",
    decay_at: Annotated[str | None, typer.Option(help="Fractions, such as 0.5,0.75.", metavar="LIST")] = None,
    decay_factor: Annotated[float | None, typer.Option(help="What a step multiplies it by.")] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 0.0,
    epochs: Annotated[float | None, typer.Option(help="When it ends; else when it is stopped.")] = None,
    batches_per_epoch: Annotated[int | None, typer.Option(help="Of all workers together.")] = None,
    batch_norm: Annotated[str, typer.Option(help="Statistics: shared, per-worker or recalibrate.")] = "shared",
    on_nonfinite: Annotated[str, typer.Option(help="NaN or Inf in a gradient: reject, apply or raise.")] = "reject",
    address: _Address = None,
    out: Out = None,
    checkpoint_every: CheckpointEvery = None,
    resume: Resume = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Wait for scripts that call `unstale.connect`, and train with what they push.

    What is trained is what the first one has. Scripts are on this machine, and
    no network port is opened: other users, and other machines, cannot reach it.
    With --address ray://NAME they are anywhere on a Ray cluster that runs
    already. Ctrl-C ends it in order.

    With --out, a server that was stopped or killed can go on: --resume, and
    start the scripts again.
    """
    import unstale
    from unstale.engines.interrupts import interrupts_held
    from unstale.engines.live.launch import conducted
    from unstale.events import EVENTS, SERVED
    from unstale.schedules import Recipe
    from unstale.storage import write_json, written

    if resume is not None:
        same_folder(out, resume)
    elif out is not None:
        check_free(out)
    folder = resume or out
    needs_out(folder, checkpoint_every=checkpoint_every is not None)
    telling, last = _Telling(Console(stderr=True)), Last()
    with alone_with(folder):
        if resume is not None and (done := finished_in(resume, quiet or json)):
            return report(done, resume, quiet, json)
        told = {name: context.params[name] for name in _TOLD} if resume is None else _told_before(context, resume)
        terms = dict(told)
        rate = [terms.pop(name) for name in ("lr", "warmup", "decay", "decay_at", "decay_factor")]
        begun, kept = kept_in(folder, checkpoint_every)
        with last.saved_in(folder, failed=True):
            served = unstale.serve(
                terms.pop("method"),
                record=None if folder is None else folder / EVENTS,
                checkpoints=kept,
                resume=begun,
                callbacks=(last,) if quiet else (telling, last),
                lr=learning_rate(Recipe(), *rate),
                **terms,
            )
            with served:
                if folder is not None and resume is None:
                    with interrupts_held(), written(folder) as new:
                        write_json(new / SERVED, told)
                if not quiet:
                    telling.say(f"waiting for scripts at {served.address}")
                run = conducted(served)
    return report(run, folder, quiet, json)


def _told_before(context: typer.Context, folder: Path) -> dict[str, Any]:
    """What the server whose run is in ``folder`` was told; nothing else may be said now."""
    from unstale.events import SERVED
    from unstale.storage import read_json

    if not (folder / SERVED).exists():
        raise StoreError(f"{folder} must hold a run of `unstale serve --out` to go on with, and does not; name one")
    told = read_json(folder / SERVED)
    for name in _TOLD:
        given = context.params[name]
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or given == told[name]:
            continue
        if name == "address":  # scripts may find it elsewhere now
            told[name] = given
        else:
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(
                f"{option} must be as when the run in {folder} began, {told[name]}, got {given}; leave it out"
            )
    return told


class _Telling(Callback):
    """A line on standard error now and then, and when a script is lost."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = time.monotonic()
        self._pushes: int | None = None  # at that time; a resumed run begins with some

    def say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def on_push(self, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if self._pushes is None:
            self._pushes = row["push"]
        if now - self._told >= _EVERY and row["outcome"] not in VOID:
            rate = (row["push"] - self._pushes) / (now - self._told)
            self._told, self._pushes = now, row["push"]
            self.say(f"epoch {row['progress']:.2f}  loss {row['loss']:.3g}  delay {row['delay']}  {rate:.0f}/s")

    def on_incident(self, worker: int, reason: str) -> None:
        self.say(f"worker {worker}: {reason}")
