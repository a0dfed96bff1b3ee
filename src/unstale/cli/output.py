"""What commands say: results on standard output, errors on standard error, and exit codes."""

from __future__ import annotations

import json
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from unstale.cli.lost import no_interrupt_is_lost
from unstale.describe import finite
from unstale.errors import ArgumentError, UnstaleError

__all__ = ["examples", "out", "print_json", "running", "say", "say_error", "say_warning"]


def out() -> Console:
    """Standard output."""
    return Console(highlight=False)


def say(text: str, style: str = "") -> None:
    """A paragraph on standard output; in a file, on one line."""
    console = out()
    console.print(Text(text), style=style, soft_wrap=not console.is_terminal)


def say_error(error: object) -> None:
    """One line on standard error."""
    line = " ".join(str(error).split())
    Console(stderr=True).print(Text.assemble(("error:", "bold red"), " ", line), soft_wrap=True)


def say_warning(message: object) -> None:
    """One line on standard error."""
    line = " ".join(str(message).split())
    Console(stderr=True).print(Text.assemble(("warning:", "yellow"), " ", line), soft_wrap=True)


def print_json(value: Mapping[str, Any] | list[Any]) -> None:
    """JSON on standard output; NaN and infinities, which it does not have, become null."""
    sys.stdout.write(json.dumps(finite(value), indent=2, ensure_ascii=False) + "\n")


def examples(*lines: str) -> str:
    """Commands for the end of a --help, a line each."""
    return "\n\n".join(["[bold]Examples[/bold]", *(line.replace("[", "\\[") for line in lines)])


@contextmanager
def running(kept: Callable[[], str]) -> Iterator[None]:
    """From here on only an ArgumentError is wrong use; others exit with 1, Ctrl-C with 130 and what is ``kept``.

    SIGTERM, where a run handles it, with 143.
    """
    try:
        with warnings.catch_warnings(), no_interrupt_is_lost():
            warnings.showwarning = lambda message, *_: say_warning(message)
            yield
    except KeyboardInterrupt as error:
        Console(stderr=True).print(Text(f"interrupted: {kept()}"), soft_wrap=True)
        raise typer.Exit(128 + getattr(error, "signal", signal.SIGINT)) from None
    except UnstaleError as error:
        for note in getattr(error, "__notes__", ()):
            Console(stderr=True).print(Text(note), soft_wrap=True)
        say_error(error)
        raise typer.Exit(2 if isinstance(error, ArgumentError) else 1) from error
