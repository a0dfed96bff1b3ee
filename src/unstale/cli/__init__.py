"""The command line: ``unstale``. Each command imports what it needs when it runs, so that --help answers at once."""

from __future__ import annotations

import os
import sys
import traceback
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
    except OSError as error:
        if isinstance(error, BrokenPipeError):  # whoever read our output has gone, as in `unstale methods | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        say_error(error)
        sys.exit(1)
    except Exception as error:  # a defect, then; a line that can be reported rather than a page
        last = traceback.extract_tb(error.__traceback__)[-1]
        say_error(f"unexpected {type(error).__name__}: {error} ({last.filename}:{last.lineno}); please report this")
        sys.exit(1)
