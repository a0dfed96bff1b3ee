"""``unstale show``: what is stored, as table and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from unstale.cli.folder import check_ended
from unstale.cli.members import print_members
from unstale.cli.options import Json, Quiet
from unstale.cli.output import examples, out, print_json, say
from unstale.cli.run import summary_line
from unstale.errors import StoreError

if TYPE_CHECKING:
    from unstale.experiments import Comparison
    from unstale.experiments.kinds import Kind
    from unstale.experiments.reproduction import Reproduction
    from unstale.experiments.table1 import Table1
    from unstale.experiments.tables import Cell

__all__ = ["EXAMPLES", "print_cells", "report", "show"]

EXAMPLES = examples("unstale show demo", "unstale show demo --json", "unstale show runs/first")


def show(
    folder: Annotated[
        Path,
        typer.Argument(help="A folder that compare, tune, reproduce, train or serve has written.", show_default=False),
    ],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Draw table and pictures again, from what is stored: of a comparison, a tuning, a reproduction or one run."""
    from unstale.experiments.kinds import kind_of

    kind = kind_of(folder)
    if kind is None:
        check_ended(folder)
        raise StoreError(
            f"{folder} holds no comparison, tuning, reproduction or run; "
            "pass a folder that compare, tune, reproduce or train has written"
        )
    _SHOWN[kind](folder, quiet, json)


def report(comparison: Comparison, quiet: bool, json: bool) -> None:
    """The table, the claims, and where the files are."""
    claims, missing = comparison.claims(), comparison.missing
    if json:
        return print_json(
            {
                "folder": str(comparison.folder),
                "results": comparison.results.to_dict("records"),
                "claims": claims,
                "missing": [trial._asdict() for trial in missing],
                "failures": [{**failure.trial._asdict(), "reason": failure.reason} for failure in comparison.failures],
            }
        )
    if quiet:
        return None
    print_table(comparison)
    for claim in claims:
        say(f"• {claim}")
    say("")
    if missing:
        say(f"missing runs: {len(missing)}; the command that began this comparison makes them", "yellow")
    say(f"results.csv, table.md, scores.png, delay_vs_gap.png and curves.png are in {comparison.folder}")
    return None


def print_table(comparison: Comparison) -> None:
    """Cells are never broken: methods that do not fit on a line make a second table."""
    from unstale.experiments import tables

    outline = comparison.outline
    cells = tables.cells(outline, comparison.results)
    rows = [(str(n), {label: cells[n, label] for label in outline.labels}, "") for n in outline.workers]
    print_cells("N", outline.labels, rows)
    for note in (f"{tables.caption(outline, comparison.results)}.", *tables.footnotes(outline, comparison.results)):
        say(note, "dim")
    say("")


def print_cells(head: str, labels: Sequence[str], rows: Sequence[tuple[str, Mapping[str, Cell], str]]) -> None:
    """Rows of a first word, cells by label, and a style; in several tables where they do not fit on a line."""
    console = out()
    widths = {label: max(len(label), *(len(cells[label].text) for _, cells, _ in rows)) + 1 for label in labels}
    first = max(len(head), *(len(word) for word, _, _ in rows)) + 1
    for group in _groups(widths, console.width - first):
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        table.add_column(head, justify="right", no_wrap=True)
        for label in group:
            table.add_column(Text(label), justify="right", no_wrap=True)
        for word, cells, style in rows:
            best = f"bold {style or 'green'}"
            table.add_row(Text(word, style), *(Text(cells[m].text, best if cells[m].best else style) for m in group))
        console.print(table)
        console.print()


def _groups(widths: dict[str, int], room: int) -> list[list[str]]:
    """As many in a row as there is room for, at least one."""
    groups: list[list[str]] = [[]]
    used = 0
    for label, width in widths.items():
        if groups[-1] and used + width > room:
            groups.append([])
            used = 0
        groups[-1].append(label)
        used += width
    return groups


def _show_comparison(folder: Path, quiet: bool, json: bool) -> None:
    from unstale.experiments import Comparison

    comparison = Comparison.load(folder)
    comparison.write()
    report(comparison, quiet, json)


def _show_tuning(folder: Path, quiet: bool, json: bool) -> None:
    from unstale.cli.tune import report_tuning
    from unstale.experiments import Tuning

    tuning = Tuning.load(folder)
    tuning.write()
    report_tuning(tuning, quiet, json)


def _show_reproduction(folder: Path, quiet: bool, json: bool) -> None:
    from unstale.experiments import reproduction

    _show_made(reproduction.load(folder), folder, quiet, json)


def _show_table1(folder: Path, quiet: bool, json: bool) -> None:
    from unstale.experiments.table1 import Table1

    _show_made(Table1.load(folder), folder, quiet, json)


def _show_made(made: Reproduction | Table1, folder: Path, quiet: bool, json: bool) -> None:
    from unstale.cli.reproduced import report_reproduction

    made.write()
    report_reproduction(made, folder, quiet, json)


def _show_run(folder: Path, quiet: bool, json: bool) -> None:
    from unstale.plots import delay_figure
    from unstale.storage import CONFIG, TIMELINE, load_run, read_json, written
    from unstale.timing import write_timeline

    run = load_run(folder)
    summary = read_json(folder / CONFIG).get("summary")
    if not isinstance(summary, dict):
        raise StoreError(f"{folder / CONFIG} is damaged: it has no summary; delete {folder} and run it again")
    with written(folder) as new:
        run.plot().savefig(new / "run.png")
        delay_figure(run).savefig(new / "delays.png")
        if run.events is not None:
            write_timeline(run.events, new / TIMELINE)
    if json:
        about = {"folder": str(folder), "config": dict(run.config), "summary": summary}
        print_json(about | ({"members": list(run.members)} if run.members else {}))
    elif not quiet:
        say(summary_line(run.config, summary))
        print_members(run.members, run.summary())
        say(f"drawn: run.png, delays.png in {folder}")
        if run.events is not None:
            say(f"{TIMELINE} there opens in ui.perfetto.dev: what each worker did when")


_SHOWN: dict[Kind, Callable[[Path, bool, bool], None]] = {
    "run": _show_run,
    "tuning": _show_tuning,
    "comparison": _show_comparison,
    "reproduction": _show_reproduction,
    "table1": _show_table1,
}
