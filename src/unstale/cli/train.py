"""``unstale train``: one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstale.cli.options import Json, Quiet, Settings, TaskName, takes_settings
from unstale.cli.output import examples, print_json, running, say
from unstale.errors import StoreError

if TYPE_CHECKING:
    from unstale.record import Run

__all__ = ["EXAMPLES", "summary_line", "train"]

EXAMPLES = examples(
    "unstale train digits --method dana_ga --workers 32 --out runs/first",
    "unstale train digits --model resnet8 --method 'ga(per=layer)' --workers 16 --lr 0.05 --epochs 10",
    "unstale train digits --clock gamma --clock-option cv=0.3 --heterogeneity 0.6",
    "unstale train digits --engine ray --workers 16 --servers 2 --address auto",
)


@takes_settings
def train(
    task: TaskName,
    settings: Settings,
    method: Annotated[str, typer.Option("--method", "-m", help="See `unstale methods`.")] = "dana_ga",
    workers: Annotated[int, typer.Option("--workers", "-n", help="How many.")] = 8,
    engine: Annotated[
        str, typer.Option(help="simulate; or real workers: processes, ray.", rich_help_panel="Real workers")
    ] = "simulate",
    address: Annotated[
        str | None,
        typer.Option(
            help="Of a Ray cluster; auto finds it. None: a local one.",
            rich_help_panel="Real workers",
            show_default=False,
        ),
    ] = None,
    servers: Annotated[
        int, typer.Option(help="That the parameters are split over, with ray.", rich_help_panel="Real workers")
    ] = 1,
    seed: Annotated[int, typer.Option(help="Of the first weights, the order of the data, and the clock.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder to save the run in.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a task with one method, in simulated time or on real workers.

    What is not given comes from the task's recipe: see `unstale tasks NAME`.
    """
    from unstale.engines import Live, Plan, carried_out
    from unstale.errors import Interrupted
    from unstale.methods import get
    from unstale.progress import ProgressBar

    made = settings.make_task(task)
    live = Live(address=address, servers=servers)
    plan = Plan(task=made, method=get(method), workers=workers, seed=seed, **settings.plan(made))
    if out is not None:
        _check_free(out)
    kept = ["nothing is kept without --out" if out is None else f"nothing could be saved in {out}"]
    with running(lambda: kept[0]):
        try:
            run = carried_out(plan, engine, live, () if quiet else (ProgressBar(),))
        except Interrupted as interrupted:
            if out is not None:
                interrupted.run.save(out)
                kept[0] = f"{len(interrupted.run.history):,} pushes are saved in {out}"
            raise
        if out is not None:
            run.save(out)
    _report(run, out, quiet, json)


def summary_line(config: Any, summary: Any) -> str:
    """A run in one sentence, from what is saved of it."""
    task, method = config["task"], config["method"]
    unit = " %" if task.get("score_name") == "accuracy" else ""
    end = "" if summary["status"] == "finished" else f", {summary['status']}"
    return (
        f"{task.get('name')} / {task.get('model_name')}, {method.get('name', 'custom')}, N = {config['workers']}, "
        f"seed {config['seed']}: {task.get('score_name')} {summary['score']:.4g}{unit}"
        f"{' (diverged)' if summary['diverged'] else ''}{end}; {summary['pushes']:,} pushes in "
        f"{summary['seconds']:.1f} s, mean delay {summary['mean_delay']:.1f}, "
        f"mean normalised gap {summary['mean_normalised_gap']:.3g}"
    )


def _check_free(out: Path) -> None:
    """Better now than after the training."""
    from unstale.experiments.store import COMPARISON
    from unstale.storage import CONFIG, usable_folder

    for name, what in ((CONFIG, "a run"), (COMPARISON, "a comparison")):
        if (out / name).exists():
            raise StoreError(f"{out} holds {what} already; choose another folder for --out")
    usable_folder(out)


def _report(run: Run, out: Path | None, quiet: bool, json: bool) -> None:
    if json:
        print_json({"config": dict(run.config), "summary": run.summary(), "folder": None if out is None else str(out)})
    elif not quiet:
        say(summary_line(run.config, run.summary()))
        say(f"gradients: {run.config['strategy']} ({run.config['strategy_reason']})")
        if out is not None:
            say(f"saved in {out}; draw it with: unstale show {out}")
