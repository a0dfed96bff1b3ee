"""All commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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


def _paragraphs(command: Callable[..., None]) -> str:
    """Its docstring with a line for each paragraph: where lines break is for the terminal to say."""
    return "\n\n".join(" ".join(part.split()) for part in (inspect.getdoc(command) or "").split("\n\n"))


for _command, _examples in (
    (catalogues.methods, catalogues.METHODS_EXAMPLES),
    (catalogues.tasks, catalogues.TASKS_EXAMPLES),
    (catalogues.clocks, catalogues.CLOCKS_EXAMPLES),
    (train.train, train.EXAMPLES),
    (serve.serve, serve.EXAMPLES),
    (compare.compare, compare.EXAMPLES),
    (tune.tune, tune.EXAMPLES),
    (reproduce.reproduce, reproduce.EXAMPLES),
    (show.show, show.EXAMPLES),
    (replay.replay, replay.EXAMPLES),
    (report.report, report.EXAMPLES),
):
    app.command(_command.__name__, help=_paragraphs(_command), epilog=_examples)(_command)
