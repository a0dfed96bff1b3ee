"""How a method's equations run: in cache-sized blocks, or compiled into one pass. Both give the same result."""

from __future__ import annotations

from collections.abc import Callable

from unstale.errors import ArgumentError
from unstale.kernels.blocks import Blocks, norms
from unstale.kernels.compiled import Auto, Compiled
from unstale.kernels.operands import Executor, Operands

__all__ = ["Auto", "Blocks", "Compiled", "Executor", "Operands", "executor", "for_run", "norms"]

_NAMED: dict[str, Callable[[], Executor]] = {"auto": Auto, "blocks": Blocks, "compiled": Compiled}


def executor(choice: str | Executor) -> Executor:
    """``"auto"``, ``"blocks"``, ``"compiled"``, or an executor of your own."""
    if isinstance(choice, str) and choice in _NAMED:
        return _NAMED[choice]()
    if isinstance(choice, str) or not callable(getattr(choice, "run", None)):
        raise ArgumentError(f"executor must be one of {', '.join(_NAMED)} or an Executor, got {choice!r}")
    return choice


def for_run(choice: str | Executor, pushes: int) -> str | Executor:
    """For a run of so many pushes: "auto" knows from the start whether it will be worth it."""
    return Auto(pushes=pushes) if choice == "auto" else choice
