"""What the commands that carry out many runs share: how many at a time, and the command that continues them."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from unstale.experiments.hands import Jobs

__all__ = ["Address", "Count", "Engine", "hired", "typed"]

_PANEL = "Who does it"


def _option(*names: str, words: str) -> Any:
    return typer.Option(*names, help=words, rich_help_panel=_PANEL, show_default=False)


Count = Annotated[int | None, _option("--jobs", "-j", words="Runs at a time; one a core if not given.")]
Engine = Annotated[
    str | None, _option("--engine", words="processes of this machine if not given; ray: the runs go to a cluster.")
]
Address = Annotated[
    str | None, _option("--address", words="Of a Ray cluster; auto finds it; a local one if not given.")
]


def hired(jobs: int | None, engine: str | None, address: str | None) -> Jobs:
    """As given, or one for each core that there is. Raises `ArgumentError`."""
    from unstale import checks
    from unstale.experiments.hands import ENGINES, Jobs

    engine = engine or "processes"
    checks.choice("--engine", engine, ENGINES)
    if jobs is not None:
        checks.whole("--jobs", jobs, 1)
    elif engine == "processes":
        jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Jobs(jobs, engine, address)


def typed() -> str:
    """The command line as it was typed."""
    return shlex.join(["unstale", *sys.argv[1:]])
