"""All commands."""

from __future__ import annotations

from typing import Annotated

import typer

import unstale
from unstale.cli import catalogues, compare, replay, report, reproduce, serve, show, train, tune

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"unstale {unstale.__version__}")
        raise typer.Exit


@app.callback(epilog="The demo: unstale compare digits --out demo")
def unstale_(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Train neural networks asynchronously without losing accuracy."""


app.command("methods", epilog=catalogues.METHODS_EXAMPLES)(catalogues.methods)
app.command("tasks", epilog=catalogues.TASKS_EXAMPLES)(catalogues.tasks)
app.command("clocks", epilog=catalogues.CLOCKS_EXAMPLES)(catalogues.clocks)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("serve", epilog=serve.EXAMPLES)(serve.serve)
app.command("compare", epilog=compare.EXAMPLES)(compare.compare)
app.command("tune", epilog=tune.EXAMPLES)(tune.tune)
app.command("reproduce", epilog=reproduce.EXAMPLES)(reproduce.reproduce)
app.command("show", epilog=show.EXAMPLES)(show.show)
app.command("replay", epilog=replay.EXAMPLES)(replay.replay)
app.command("report", epilog=report.EXAMPLES)(report.report)
