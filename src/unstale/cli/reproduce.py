"""``unstale reproduce``: the paper's tables and figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstale.cli import parse
from unstale.cli.jobs import Address, Count, Engine, hired, typed
from unstale.cli.options import Json, Quiet, Settings
from unstale.cli.output import examples, print_json, running, say, say_error
from unstale.cli.reproduced import as_json, list_presets, report_reproduction, told_failures
from unstale.errors import ArgumentError

if TYPE_CHECKING:
    from unstale.experiments.hands import Jobs
    from unstale.experiments.orders import Order
    from unstale.experiments.reproduction import Reproduction
    from unstale.experiments.table1 import Table1

__all__ = ["EXAMPLES", "reproduce"]

EXAMPLES = examples(
    "unstale reproduce list",
    "unstale reproduce table4 --scale digits --seeds 5 --out table4",
    "unstale reproduce table4 --methods sa,ga,dana_ga --workers 8,32 --seeds 3 --epochs 10 --out short",
    "unstale reproduce figure-c8 --clock gamma --heterogeneity 0.6 --out c8",
    "unstale reproduce table4 --scale paper --data /data/cifar10 --device cuda --out full",
)
_RUN, _TIME = "What to run", "Simulated time"


def reproduce(
    name: Annotated[str, typer.Argument(help="table1 to table6, figure-c8, all, or list.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for all of it.", show_default=False)] = None,
    scale: Annotated[
        str | None, typer.Option(help="paper, fashion, digits or text; the smallest if not given.", show_default=False)
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many.", rich_help_panel=_RUN, show_default=False)] = None,
    workers: Annotated[
        str | None, typer.Option(help="Instead of the preset's.", rich_help_panel=_RUN, show_default=False)
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Instead of the preset's.", rich_help_panel=_RUN, show_default=False)
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Instead of the preset's.", rich_help_panel=_RUN, show_default=False)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="The folder of the task's files.", metavar="ROOT", rich_help_panel=_RUN, show_default=False),
    ] = None,
    task_option: Annotated[
        list[str] | None,
        typer.Option(
            help="Of the task: width=4, root=/data; repeatable.",
            metavar="NAME=VALUE",
            rich_help_panel=_RUN,
            show_default=False,
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Such as cuda.", rich_help_panel=_RUN, show_default=False)] = None,
    jobs: Count = None,
    engine: Engine = None,
    address: Address = None,
    clock: Annotated[
        str | None, typer.Option(help="See `unstale clocks`.", rich_help_panel=_TIME, show_default=False)
    ] = None,
    clock_option: Annotated[
        list[str] | None,
        typer.Option(help="Of the clock: cv=0.1.", metavar="NAME=VALUE", rich_help_panel=_TIME, show_default=False),
    ] = None,
    heterogeneity: Annotated[
        float | None, typer.Option(help="How unequal machines are: 0.6.", rich_help_panel=_TIME, show_default=False)
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run a table or figure of the paper, at its size or scaled down, and put it beside the paper's numbers.

    Interrupted and run again, it continues: finished runs are not repeated.
    """
    from unstale import checks
    from unstale.experiments import presets
    from unstale.experiments.orders import Order

    if name == "list":
        return list_presets(json)
    if out is None:
        raise ArgumentError("--out must name a folder for the runs, tables and pictures, got none")
    timed = any(value is not None for value in (clock, clock_option, heterogeneity))
    settings = Settings(
        data=data, task_option=task_option, clock=clock, clock_option=clock_option, heterogeneity=heterogeneity
    )
    changes = {
        "seeds": seeds,
        "workers": None if workers is None else parse.wholes("--workers", workers),
        "methods": None if methods is None else parse.split(methods),
        "epochs": epochs,
        "task_options": settings.task_options() or None,
        "device": device,
    }
    if scale is not None:
        checks.choice("--scale", scale, presets.SCALES)
    if seeds is not None:
        checks.whole("--seeds", seeds, 1)
    asked = hired(jobs, engine, address)
    made_clock = settings.make_clock() if timed else None
    if name != "all":
        return _one(Order.of(name, scale, made_clock, **changes), out, asked, quiet, json)
    return _all([_fitting(Order, one, scale, made_clock, changes) for one in presets.NAMES], out, asked, quiet, json)


def _one(order: Order, out: Path, jobs: Jobs, quiet: bool, json: bool) -> None:
    made = _made(order, out, jobs, quiet)
    report_reproduction(made, out, quiet, json)
    if told_failures(made):
        raise typer.Exit(1)


def _made(order: Order, out: Path, jobs: Jobs, quiet: bool) -> Reproduction | Table1:
    from unstale.experiments.reproduce import job

    ready = job(order, out, typed())
    with running(lambda: f"{ready.kept()}; the same command continues"):
        return ready.run(jobs, progress=not quiet)


def _all(orders: list[Order], out: Path, jobs: Jobs, quiet: bool, json: bool) -> None:
    """One after the other, each in a folder of its own; what cannot run here is told, and does not stop the others.

    Ends with 2 where all that failed was wrong use, with 1 where anything else did.
    """
    from unstale.errors import UnstaleError

    codes: set[int] = set()
    everything: dict[str, Any] = {}
    for order in orders:
        name = order.preset.name.replace("_", "-")
        folder = out / order.preset.name
        if not (quiet or json):
            say(f"{name}: {order.preset.title}, at scale {order.scale}", "bold")
        try:
            made = _made(order, folder, jobs, quiet)
            if json:
                everything[name] = as_json(made, folder)
            else:
                report_reproduction(made, folder, quiet, json)
            codes.add(int(told_failures(made)))
        except UnstaleError as error:
            say_error(error)
            everything[name] = {"error": str(error)}
            codes.add(2)
        except typer.Exit as end:
            if end.exit_code == 130:
                raise
            everything[name] = {"error": str(end.__cause__)}
            codes.add(end.exit_code)
    if json:
        print_json(everything)
    if failed := codes - {0}:
        raise typer.Exit(2 if failed == {2} else 1)


def _fitting(make: Any, name: str, scale: str | None, clock: Any, changes: Mapping[str, Any]) -> Order:
    """At the scale asked for, or the smallest of a preset that does not have it."""
    from unstale.experiments import presets

    has = scale in presets.get(name).scales
    order: Order = make.of(name, scale if has else None, clock, **changes)
    return order
