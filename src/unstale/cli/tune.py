"""``unstale tune``: one method with many settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstale.cli.jobs import Address, Count, Engine, hired, typed
from unstale.cli.options import Json, Quiet, Settings, TaskName, takes_settings
from unstale.cli.output import examples, print_json, running, say, say_error
from unstale.errors import ArgumentError

if TYPE_CHECKING:
    from unstale.experiments import Tuning

__all__ = ["EXAMPLES", "report_tuning", "tune"]

EXAMPLES = examples(
    "unstale tune digits --method nag_asgd --workers 32 --grid paper70 --out tuned",
    "unstale tune digits --method dana_ga --space lr=log:0.001..1 --space momentum=0..0.99 --trials 50 --out tuned",
    "unstale tune digits --method ga --space per=element,layer,model --space lr=0.01,0.03,0.1 --seeds 3 --out tuned",
)


@takes_settings
def tune(
    task: TaskName,
    settings: Settings,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for trials and pictures.", show_default=False)],
    method: Annotated[str, typer.Option("--method", "-m", help="See `unstale methods`.")] = "nag_asgd",
    workers: Annotated[int, typer.Option("--workers", "-n", help="How many.")] = 32,
    grid: Annotated[
        str | None, typer.Option(help="A named grid; paper70 if no --space is given.", show_default=False)
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="Values of a name: lr=log:0.001..1, momentum=0..0.99, batch_size=int:16..128, per=layer,model; "
            "repeatable.",
            metavar="NAME=VALUES",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="How many, chosen by TPE; every combination if not given.", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each trial, averaged.")] = 1,
    prune: Annotated[
        bool | None,
        typer.Option(
            "--prune/--no-prune", help="Give up what is worse than the median; on with --trials.", show_default=False
        ),
    ] = None,
    jobs: Count = None,
    engine: Engine = None,
    address: Address = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Look for a method's best learning rate, momentum and the like.

    The grid paper70 is momentum 0 to 0.9 by learning rate 0.003 to 0.2. It is ours: the 70 settings that the paper
    tuned ASGD over are not known.

    Interrupted and run again, it continues: finished trials are not repeated.
    """
    from unstale.experiments.space import make_space
    from unstale.experiments.tuning import Search

    made = settings.make_task(task)
    chosen = make_space(grid, _pairs(space) if space else None)
    search = Search.of(made, method, workers, chosen, trials, seeds, prune, settings.plan(made))
    asked = hired(jobs, engine, address)
    search.check(asked)
    store = search.open(out, typed())
    with running(lambda: _kept(out, search.total)):
        tuning = search.carry_out(store, asked, progress=not quiet)
    report_tuning(tuning, quiet, json)
    for failure in tuning.failures:
        say_error(failure)
    if tuning.failures:
        raise typer.Exit(1)


def report_tuning(tuning: Tuning, quiet: bool, json: bool) -> None:
    """The best trial, and where the files are."""
    states = tuning.trials["state"].value_counts().to_dict()
    if json:
        return print_json(
            {
                "folder": str(tuning.folder),
                "best_params": tuning.best_params,
                "best_score": tuning.best_score,
                "trials": tuning.trials.to_dict("records"),
                "failures": [str(failure) for failure in tuning.failures],
            }
        )
    if quiet:
        return None
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none yet"
    say(f"{tuning.title}; trials: {counts}")
    if tuning.best is None:
        say("no trial has finished without diverging; try smaller learning rates", "yellow")
    else:
        values = ", ".join(f"{name} = {_short(value)}" for name, value in tuning.best_params.items())
        say(
            f"best: {values} with {tuning.about['task'].get('score_name', 'score')} {tuning.best_score:.4g}",
            "bold green",
        )
        for name in tuning.edges():
            say(f"the best {name} is at an end of what was tried: better ones may lie beyond", "yellow")
    say(f"trials.csv, best.json and heatmap.png are in {tuning.folder}")
    return None


def _pairs(given: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, sign, values = (part.strip() for part in text.partition("="))
        if not sign or not name.isidentifier() or name in pairs:
            raise ArgumentError(f"--space must be NAME=VALUES, each name once, such as lr=log:0.001..1, got {text!r}")
        pairs[name] = values
    return pairs


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _kept(out: Path, total: int) -> str:
    from unstale.experiments import Tuning

    done = int(Tuning.load(out).trials["state"].isin(["finished", "pruned"]).sum())
    return f"{done} of {total} trials are kept in {out}; the same command continues"
