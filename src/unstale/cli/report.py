"""``unstale report``: a folder of results as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unstale.cli.options import Json, Quiet
from unstale.cli.output import examples, print_json, say

__all__ = ["EXAMPLES", "report"]

EXAMPLES = examples("unstale report demo", "unstale report tuned", "unstale report table4")


def report(
    folder: Annotated[Path, typer.Argument(help="A folder that compare, tune or reproduce wrote.", show_default=False)],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write report.html into a folder of results: one file that any browser opens, without a network.

    Tables sort, pictures zoom and answer, and every run tells how it was made.
    """
    from unstale.report import report as write

    path = write(folder)
    if json:
        print_json({"report": str(path)})
    elif not quiet:
        say(f"written: {path}")
