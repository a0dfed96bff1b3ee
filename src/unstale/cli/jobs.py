"""What the commands that carry out many runs share: how many at a time, and the command that continues them."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Annotated

import typer

__all__ = ["Jobs", "at_a_time", "typed"]

Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", help="Runs at a time; one a core if not given.", show_default=False)
]


def at_a_time(jobs: int | None) -> int:
    """As given, or one for each core that this process may use. Raises `ArgumentError` below 1."""
    from unstale import checks

    if jobs is not None:
        return checks.whole("--jobs", jobs, 1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def typed() -> str:
    """The command line as it was typed."""
    return shlex.join(["unstale", *sys.argv[1:]])
