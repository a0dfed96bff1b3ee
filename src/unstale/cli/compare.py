"""``unstale compare``: every method at several numbers of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unstale.cli import parse
from unstale.cli.jobs import Address, Count, Engine, hired, typed
from unstale.cli.options import Json, Quiet, Settings, TaskName, takes_settings
from unstale.cli.output import examples, running, say_error

__all__ = ["EXAMPLES", "compare"]

EXAMPLES = examples(
    "unstale compare digits --out demo",
    "unstale compare digits --methods asgd,dana_ga,'ga(per=layer)' --workers 4,8,16,32 --seeds 3 --out mine --jobs 2",
    "unstale compare fashion_mnist --model resnet8 --epochs 3 --seeds 1 --out clothes",
)


@takes_settings
def compare(
    task: TaskName,
    settings: Settings,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for runs, table, pictures.", show_default=False)],
    methods: Annotated[
        str | None, typer.Option(help="Between commas; the paper's seven if not given.", show_default=False)
    ] = None,
    workers: Annotated[
        str | None, typer.Option(help="Between commas; 4,16,32 if not given.", show_default=False)
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many; 2 if not given.", show_default=False)] = None,
    jobs: Count = None,
    engine: Engine = None,
    address: Address = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train every method at several numbers of workers, and put them side by side.

    The baseline, nag_asgd with one worker, always runs too.

    Interrupted and run again, it continues: finished runs are not repeated.

    What is not given comes from the task's recipe: see `unstale tasks NAME`.
    """
    from unstale.cli.show import report
    from unstale.experiments import PAPER, Specification
    from unstale.experiments.conduct import open_store, run_missing
    from unstale.experiments.recipes import SEEDS, WORKERS

    made = settings.make_task(task)
    counts = WORKERS if workers is None else parse.wholes("--workers", workers)
    named = PAPER if methods is None else parse.split(methods)
    specification = Specification.of(made, named, counts, SEEDS if seeds is None else seeds, settings.plan(made))
    asked = hired(jobs, engine, address)
    store = open_store(specification, out, typed())
    with store.claimed() as missing, running(lambda: _kept(out)):
        comparison = run_missing(specification, store, missing, asked, progress=not quiet)
        comparison.write()
    report(comparison, quiet, json)
    for failure in comparison.failures:
        say_error(failure)
    if comparison.failures:
        raise typer.Exit(1)


def _kept(out: Path) -> str:
    from unstale.experiments import Comparison

    comparison = Comparison.load(out)
    done, missing = len(comparison.results), len(comparison.missing)
    return f"{done} of {done + missing} runs are kept in {out}; the same command continues"
