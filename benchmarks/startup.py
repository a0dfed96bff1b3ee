"""What does ``import unstale`` cost on top of ``import torch``, and how long does ``unstale --help`` take?

Method: fresh processes, in turn. Imports are timed inside, after torch; commands from start to end of their process.
``typer --help`` is an empty command line of the same library, which cannot be beaten with it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from common import Row, alternate, median, parser, report

EMPTY = """
import typer
app = typer.Typer(rich_markup_mode="rich", add_completion=False)
app.command()(lambda: None)
app(["--help"])
"""
HELP = "from unstale.cli import main; main(['--help'])"
NO_TORCH = f"""
import sys
try:
    {HELP}
finally:
    assert "torch" not in sys.modules
"""
TIMED = "import time, torch; started = time.perf_counter(); {}; print(time.perf_counter() - started)"
IMPORTS = {
    "import unstale": TIMED.format("import unstale"),
    "from unstale import Server": TIMED.format("from unstale import Server"),
}
COMMANDS = {"python": "pass", "typer --help": EMPTY, "unstale --help": HELP}
LIMITS = {"import unstale": 0.15, "unstale --help": 0.4}


def process(line: str, timed_inside: bool) -> Callable[[], float | None]:
    """A side: one fresh interpreter."""

    def side() -> float | None:
        done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
        return float(done.stdout) if timed_inside else None

    return side


def row(what: str, seconds: list[float]) -> Row:
    limit = LIMITS.get(what)
    return {
        "what": what,
        "median s": median(seconds),
        "least s": min(seconds),
        "most s": max(seconds),
        "at most": "" if limit is None else f"{limit} s",
        "raw seconds": seconds,
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    rounds = 2 if options.quick else 15
    process(NO_TORCH, False)()
    sides = {name: process(line, True) for name, line in IMPORTS.items()}
    sides |= {name: process(line, False) for name, line in COMMANDS.items()}
    rows = [row(name, times) for name, times in alternate(sides, rounds).items()]
    report("startup", "Seconds until a fresh process has done it", rows, settings={"rounds": rounds})


if __name__ == "__main__":
    main()
