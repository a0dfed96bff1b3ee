"""``unstale replay``: a real run once more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from unstale.cli.folder import check_ended, check_free
from unstale.cli.options import Json, Quiet
from unstale.cli.output import examples, out, print_json, running, say

if TYPE_CHECKING:
    from unstale.experiments.replays import Replay

__all__ = ["EXAMPLES", "replay"]

EXAMPLES = examples("unstale replay runs/real", "unstale replay runs/real --method ga --out runs/real-ga")
_ROWS = ("score", "pushes", "wasted", "mean_delay", "mean_gap", "mean_normalised_gap", "mean_penalty", "status")


def replay(
    folder: Annotated[Path, typer.Argument(help="Of a run of `unstale train --engine …`.", show_default=False)],
    method: Annotated[
        str | None,
        typer.Option("--method", "-m", help="Another one, for the same arrivals.", show_default=False),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--out", "-o", help="A folder to save the replay in.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Let what happened in a real run happen again, in the simulator, and compare.

    Every call of the server is made again, in its order. The exit code is 1 if parameters or history differ.

    With --method, gradients arrive and workers come and go as they did, but another method makes steps of them.
    """
    from unstale.experiments import replays
    from unstale.progress import ProgressBar
    from unstale.storage import CONFIG, read_json

    check_ended(folder)
    read_json(folder / CONFIG)  # a folder without a run is wrong use, not a run that fails
    if save is not None:
        check_free(save)
    with running(lambda: "nothing of the replay is kept"):
        done = replays.replay(folder, method, callbacks=() if quiet else (ProgressBar(),))
        if save is not None:
            done.run.save(save)
    if json:
        print_json(_as_json(done))
    elif not quiet:
        _print(done)
    if done.repeated and not done.identical:
        raise typer.Exit(1)


def _print(done: Replay) -> None:
    then, now = done.recorded.summary(), done.run.summary()
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("")
    for run in (done.recorded, done.run):
        about = run.config["method"]
        name = about.get("name", "custom") if isinstance(about, dict) else about
        table.add_column(Text(f"{'recorded' if run is done.recorded else 'replayed'}: {name}"), justify="right")
    for row in _ROWS:
        table.add_row(row.replace("_", " "), *(_cell(summary[row]) for summary in (then, now)))
    out().print(table)
    if not done.repeated and done.run.status == "stopped":
        say("the recorded arrivals ended before all batches were accepted: compare the two at equal progress", "yellow")
    if done.repeated and done.identical and done.rounded:
        say("identical: parameters and evaluations are the same to the bit, and so is the history", "bold green")
        say(f"but for last digits of {', '.join(done.rounded)}, which several servers add up in another order")
    elif done.repeated and done.identical:
        say("identical: parameters, history and evaluations are the same to the bit", "bold green")
    elif done.repeated:
        _print_differences(done)


def _print_differences(done: Replay) -> None:
    say(f"not identical: parameters differ by at most {done.largest_difference:.3g}", "bold red")
    for name, rows in done.differences.items():
        say(f"{name} differs in {rows:,} rows")
    for name, (before, after) in done.versions.items():
        say(f"{name} was {before} and is {after} now, which may change last bits")


def _cell(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _as_json(done: Replay) -> dict[str, object]:
    compared = {
        "identical": done.identical,
        "largest_difference": done.largest_difference,
        "differences": done.differences,
        "versions": {name: list(both) for name, both in done.versions.items()},
    }
    summaries = {"recorded": done.recorded.summary(), "replayed": done.run.summary()}
    return {**summaries, **(compared if done.repeated else {})}
