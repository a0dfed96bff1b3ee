"""What is said of a reproduction, and of all that can be reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from unstale.cli.output import out as console
from unstale.cli.output import print_json, say, say_error
from unstale.cli.show import print_cells

if TYPE_CHECKING:
    from unstale.experiments.reproduction import Reproduction
    from unstale.experiments.table1 import Table1

__all__ = ["as_json", "list_presets", "report_reproduction", "told_failures"]


def report_reproduction(made: Reproduction | Table1, folder: Path, quiet: bool, json: bool) -> None:
    """What differs, the table, the claims, and where the files are."""
    if json:
        return print_json(as_json(made, folder))
    if quiet:
        return None
    _print(made)
    for line in (*made.notes(), ""):
        say(line, "dim")
    for claim in made.claims():
        say(f"• {claim}")
    say("")
    say(f"{', '.join(_written(folder))} are in {folder}")
    return None


def as_json(made: Reproduction | Table1, folder: Path) -> dict[str, Any]:
    """The same as plain values."""
    about = {"folder": str(folder), "table": made.table.to_dict("records"), "notes": made.notes()}
    failures = [{**failure.trial._asdict(), "reason": failure.reason} for failure in made.failures]
    return {**about, "claims": made.claims(), "files": _written(folder), "failures": failures}


def _written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in (".md", ".csv", ".png"))


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


def told_failures(made: Reproduction | Table1) -> bool:
    """Whether runs have failed; they are told."""
    for failure in made.failures:
        say_error(failure)
    return bool(made.failures)


def list_presets(json: bool) -> None:
    """What there is to reproduce."""
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
