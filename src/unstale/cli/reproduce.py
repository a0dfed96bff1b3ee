"""``unstale reproduce``: the paper's tables and figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from unstale.cli import parse
from unstale.cli.jobs import Jobs, at_a_time, typed
from unstale.cli.options import Json, Quiet, Settings
from unstale.cli.output import examples, print_json, running, say, say_error
from unstale.cli.output import out as console
from unstale.cli.show import print_cells
from unstale.errors import ArgumentError

if TYPE_CHECKING:
    from unstale.experiments.orders import Order
    from unstale.experiments.reproduction import Reproduction
    from unstale.experiments.table1 import Table1

__all__ = ["EXAMPLES", "report_reproduction", "reproduce"]

EXAMPLES = examples(
    "unstale reproduce list",
    "unstale reproduce table4 --scale digits --seeds 5 --out table4",
    "unstale reproduce table4 --methods sa,ga,dana_ga --workers 8,32 --seeds 3 --epochs 10 --out short",
    "unstale reproduce figure-c8 --clock gamma --heterogeneity 0.6 --out c8",
    "unstale reproduce table4 --scale paper --task-option root=/data/cifar10 --device cuda --out full",
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
    task_option: Annotated[
        list[str] | None,
        typer.Option(
            help="root=/data, width=4; repeatable.", metavar="NAME=VALUE", rich_help_panel=_RUN, show_default=False
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Such as cuda.", rich_help_panel=_RUN, show_default=False)] = None,
    jobs: Jobs = None,
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
        return _list(json)
    if out is None:
        raise ArgumentError("--out must name a folder for the runs, tables and pictures, got none")
    timed = any(value is not None for value in (clock, clock_option, heterogeneity))
    settings = Settings(clock=clock, clock_option=clock_option, heterogeneity=heterogeneity)
    changes = {
        "seeds": seeds,
        "workers": None if workers is None else parse.wholes("--workers", workers),
        "methods": None if methods is None else parse.split(methods),
        "epochs": epochs,
        "task_options": parse.named("--task-option", task_option or ()) or None,
        "device": device,
    }
    if scale is not None:
        checks.choice("--scale", scale, presets.SCALES)
    if seeds is not None:
        checks.whole("--seeds", seeds, 1)
    jobs = at_a_time(jobs)
    made_clock = settings.make_clock() if timed else None
    if name != "all":
        return _one(Order.of(name, scale, made_clock, **changes), out, jobs, quiet, json)
    return _all([_fitting(Order, one, scale, made_clock, changes) for one in presets.NAMES], out, jobs, quiet, json)


def report_reproduction(made: Reproduction | Table1, folder: Path, quiet: bool, json: bool) -> None:
    """What differs, the table, the claims, and where the files are."""
    written = sorted(path.name for path in folder.iterdir() if path.suffix in (".md", ".csv", ".png"))
    if json:
        about = {"folder": str(folder), "table": made.table.to_dict("records"), "notes": made.notes()}
        return print_json({**about, "claims": made.claims(), "files": written})
    if quiet:
        return None
    _print(made)
    for line in (*made.notes(), ""):
        say(line, "dim")
    for claim in made.claims():
        say(f"• {claim}")
    say("")
    say(f"{', '.join(written)} are in {folder}")
    return None


def _print(made: Reproduction | Table1) -> None:
    from unstale.experiments.table1 import Table1

    if isinstance(made, Table1):
        return print_cells("", made.labels, [(name, cells, "") for name, cells in made.rows])
    differences = made.differences
    if differences:
        say("What differs from the paper (evidence: A, T code; P paper; M memory; O ours):", "bold")
    for line in differences:
        say(f"  {line}")
    say("")
    rows = [
        (str(row.workers), row.cells, "") if row.whose == "here" else ("paper", row.cells, "dim") for row in made.rows
    ]
    return print_cells("N", made.outline.labels, rows)


def _one(order: Order, out: Path, jobs: int, quiet: bool, json: bool) -> None:
    from unstale.experiments.reproduce import job

    ready = job(order, out, typed())
    with running(lambda: f"{ready.kept()}; the same command continues"):
        made = ready.run(jobs, progress=not quiet)
    report_reproduction(made, out, quiet, json)
    failures = made.failures
    for failure in failures:
        say_error(failure)
    if failures:
        raise typer.Exit(1)


def _all(orders: list[Order], out: Path, jobs: int, quiet: bool, json: bool) -> None:
    """One after the other, each in a folder of its own; what cannot run here is told, and does not stop the others."""
    from unstale.errors import UnstaleError

    failed = False
    for order in orders:
        if not (quiet or json):
            say(f"{order.preset.name.replace('_', '-')}: {order.preset.title}, at scale {order.scale}", "bold")
        try:
            _one(order, out / order.preset.name, jobs, quiet, json)
        except UnstaleError as error:
            say_error(error)
            failed = True
        except typer.Exit as end:
            if end.exit_code == 130:
                raise
            failed = True
    if failed:
        raise typer.Exit(1)


def _fitting(make: Any, name: str, scale: str | None, clock: Any, changes: Mapping[str, Any]) -> Order:
    """At the scale asked for, or the smallest of a preset that does not have it."""
    from unstale.experiments import presets

    has = scale in presets.get(name).scales
    order: Order = make.of(name, scale if has else None, clock, **changes)
    return order


def _list(json: bool) -> None:
    from unstale.experiments import presets

    everything = {name.replace("_", "-"): presets.get(name) for name in presets.NAMES}
    if json:
        about = {
            name: {
                "title": preset.title,
                "scales": {scale: preset.workload(scale) for scale in preset.scales},
                "paper": {key: [value.value, value.evidence] for key, value in preset.paper.items()},
            }
            for name, preset in everything.items()
        }
        return print_json(about)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for head in ("name", "what", "scales"):
        table.add_column(head)
    for name, preset in everything.items():
        table.add_row(Text(name), Text(preset.title), Text(", ".join(preset.scales)))
    console().print(table)
    return None
