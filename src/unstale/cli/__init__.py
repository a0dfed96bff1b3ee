"""The command line: ``unstale``. Each command imports what it needs when it runs, so that --help answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and end the process: 0 done, 1 a run failed, 2 wrong use, 130 interrupted."""
    from unstale.cli.app import app
    from unstale.cli.output import say_error
    from unstale.errors import UnstaleError

    try:
        app(arguments, prog_name="unstale")
    except UnstaleError as error:
        say_error(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has gone, as in `unstale methods | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
