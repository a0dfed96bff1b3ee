"""Every error a user can meet.

UnstaleError
├── ArgumentError (also ValueError)       an argument breaks a rule; names it, the rule, the value, the remedy
│   ├── UnknownNameError                  no method, task or clock of that name; lists the nearest ones
│   ├── MethodError                       parts that do not make a method together
│   └── GradientError                     a pushed gradient of the wrong shape, dtype or device
├── NonFiniteError                        a gradient with NaN or Inf under ``on_nonfinite="raise"``
├── DataError                             data files missing, damaged, or not what they claim to be
├── StoreError                            a folder of results that cannot be written, read, or continued
├── MissingPackageError (also ImportError) an optional package that is not installed; says how to install it
└── RunError                              a run failed while it was running

Interrupted (a KeyboardInterrupt)         Ctrl-C during a run; carries the run so far
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unstale.record import Run

__all__ = [
    "ArgumentError",
    "DataError",
    "GradientError",
    "Interrupted",
    "MethodError",
    "MissingPackageError",
    "NonFiniteError",
    "RunError",
    "StoreError",
    "UnknownNameError",
    "UnstaleError",
]


class UnstaleError(Exception):
    """The root: catch this to catch everything that unstale raises on purpose."""


class ArgumentError(UnstaleError, ValueError):
    """An argument breaks a rule."""


class UnknownNameError(ArgumentError):
    """No method, task or clock of that name.

    ``kind`` is the word for what was looked up ("method"), ``known`` all the names there are.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        super().__init__(f"unknown {kind} {str(name)!r}; {hint}")
        self.near = near


class MethodError(ArgumentError):
    """Parts that do not make a method together."""


class GradientError(ArgumentError):
    """A pushed gradient of the wrong shape, dtype or device."""


class NonFiniteError(UnstaleError):
    """A gradient with NaN or Inf reached a server that was asked to raise."""


class DataError(UnstaleError):
    """Data files are missing, damaged, or not what they claim to be."""


class StoreError(UnstaleError):
    """A folder of results cannot be written, read, or continued."""


class MissingPackageError(UnstaleError, ImportError):
    """An optional package is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs the package {package}, which is not installed; pip install 'unstale[{extra}]'")


class RunError(UnstaleError):
    """A run failed while it was running."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run. ``run`` holds everything computed until then, ``signal`` the number of what came."""

    signal: int = 2

    def __init__(self, run: Run) -> None:
        super().__init__(f"interrupted after {len(run.history)} pushes")
        self.run = run
