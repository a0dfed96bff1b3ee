"""``unstale train``: one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstale.cli.members import print_members
from unstale.cli.options import Json, Quiet, Settings, TaskName, takes_settings
from unstale.cli.output import examples, print_json, running, say
from unstale.cli.real import Engine, MaxRestarts, Threads, live_options
from unstale.errors import ArgumentError, StoreError, UnstaleError
from unstale.events import EVENTS

if TYPE_CHECKING:
    from unstale.callbacks import Callback
    from unstale.engines import Plan
    from unstale.record import Run

__all__ = ["EXAMPLES", "check_free", "summary_line", "train"]

EXAMPLES = examples(
    "unstale train digits --method dana_ga --workers 32 --out runs/first",
    "unstale train digits --model resnet8 --method 'ga(per=layer)' --workers 16 --lr 0.05 --epochs 10",
    "unstale train digits --clock gamma --clock-option cv=0.3 --heterogeneity 0.6",
    "unstale train digits --engine processes --workers 4 --out runs/real",
)


@takes_settings
def train(
    task: TaskName,
    settings: Settings,
    method: Annotated[str, typer.Option("--method", "-m", help="See `unstale methods`.")] = "dana_ga",
    workers: Annotated[int, typer.Option("--workers", "-n", help="How many.")] = 8,
    seed: Annotated[int, typer.Option(help="Of the first weights, the order of the data, and the clock.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder to save the run in.", show_default=False)
    ] = None,
    engine: Engine = "simulate",
    max_restarts: MaxRestarts = None,
    threads: Threads = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write scalars to OUT/tensorboard.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a task with one method: in simulated time, or with real workers.

    What is not given comes from the task's recipe: see `unstale tasks NAME`.

    With --engine processes and --out, the log of events is written to the folder while the run goes on.
    """
    import unstale
    from unstale.engines import Plan
    from unstale.methods import get
    from unstale.progress import ProgressBar

    how = live_options(engine, settings, max_restarts, threads)
    if tensorboard and out is None:
        raise ArgumentError("--tensorboard needs a folder to write to; add --out FOLDER")
    made = settings.make_task(task)
    plan = Plan(task=made, method=get(method), workers=workers, seed=seed, **settings.plan(made))
    if out is not None:
        check_free(out)
        how |= {} if engine == "simulate" else {"record": out / EVENTS}
    watching: tuple[Callback, ...] = () if quiet else (ProgressBar(),)
    if tensorboard and out is not None:
        watching += (unstale.TensorBoard(out / "tensorboard"),)
    run = _carried_out(plan, engine, how, out, watching)
    _report(run, out, quiet, json)


def _carried_out(plan: Plan, engine: str, how: dict[str, Any], out: Path | None, watching: tuple[Callback, ...]) -> Run:
    """Train and save; what was computed is saved, too, of a run that is interrupted, or a real one that fails."""
    import unstale
    from unstale.callbacks import Callback

    class Last(Callback):
        run: Run | None = None

        def on_end(self, run: Run) -> None:
            self.run = run

    last = Last()
    given = {name: getattr(plan, name) for name in plan.__dataclass_fields__}
    kept = "nothing is kept without --out" if out is None else f"nothing could be saved in {out}"
    with running(lambda: kept):
        try:
            run = unstale.train(**given, engine=engine, callbacks=(*watching, last), **how)
        except (KeyboardInterrupt, UnstaleError) as error:
            if out is not None and last.run is not None and (engine != "simulate" or last.run.status != "failed"):
                last.run.save(out)
                kept = f"{len(last.run.history):,} pushes are saved in {out}"
                error.add_note(kept)
            raise
        if out is not None:
            run.save(out)
    return run


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


def check_free(out: Path) -> None:
    """Better now than after the training."""
    from unstale.experiments.store import COMPARISON
    from unstale.storage import CONFIG, usable_folder

    for name, what in ((CONFIG, "a run"), (COMPARISON, "a comparison"), (EVENTS, "a run that did not end")):
        if (out / name).exists():
            raise StoreError(f"{out} holds {what} already; choose another folder for --out")
    usable_folder(out)


def _report(run: Run, out: Path | None, quiet: bool, json: bool) -> None:
    if json:
        about = {"config": dict(run.config), "summary": run.summary(), "folder": None if out is None else str(out)}
        print_json(about | ({"members": list(run.members)} if run.members else {}))
    elif not quiet:
        say(summary_line(run.config, run.summary()))
        print_members(run.members, run.quarantined)
        say(f"gradients: {run.config['strategy']} ({run.config['strategy_reason']})")
        if out is not None:
            say(f"saved in {out}; draw it with: unstale show {out}")
