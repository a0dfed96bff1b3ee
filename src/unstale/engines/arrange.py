"""From the arguments of `unstale.train` and `unstale.launch` to what is to be done, and how."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from unstale.callbacks import Callback
from unstale.checkpoint import Checkpoints
from unstale.engines.base import Plan
from unstale.engines.live import Live
from unstale.errors import ArgumentError

__all__ = ["Arranged", "arranged"]


class Arranged(NamedTuple):
    """What, how, who looks on, and where it is kept."""

    plan: Plan
    live: Live
    callbacks: tuple[Callback, ...]
    checkpoints: Checkpoints | None
    resume: Path | None


def arranged(
    name: str,
    arguments: Mapping[str, Any],
    *,
    callbacks: object,
    progress: bool,
    checkpoints: object,
    resume: object,
) -> Arranged:
    """Sort the ``arguments`` of the function ``name``. Raises `ArgumentError` for one that breaks a rule."""
    whats, hows = Plan.__dataclass_fields__, Live.__dataclass_fields__
    unknown = sorted(set(arguments) - {*whats, *hows})
    if unknown:
        known = ", ".join([*sorted({*whats, *hows}), "engine, callbacks, progress, checkpoints, resume"])
        raise ArgumentError(f"{name}() has no argument {unknown[0]!r}; it takes {known}")
    if checkpoints is not None and not isinstance(checkpoints, Checkpoints):
        raise ArgumentError(f"checkpoints must be unstale.Checkpoints('FOLDER'), or None, got {checkpoints!r}")
    if resume is not None and not isinstance(resume, str | Path):
        raise ArgumentError(f"resume must be a folder of checkpoints, or None, got {resume!r}")
    watching = _callbacks(callbacks)
    plan = Plan(**{key: value for key, value in arguments.items() if key in whats})
    live = Live(**{key: value for key, value in arguments.items() if key in hows})
    if progress:
        from unstale.progress import ProgressBar

        watching = (*watching, ProgressBar())
    return Arranged(plan, live, watching, checkpoints, None if resume is None else Path(resume))


def _callbacks(given: object) -> tuple[Callback, ...]:
    if isinstance(given, Callback) or not isinstance(given, Iterable):
        raise ArgumentError(f"callbacks must be a list of Callback, got {given!r}; put it into one")
    found = tuple(given)
    for one in found:
        if not isinstance(one, Callback):
            raise ArgumentError(f"callbacks must be a list of Callback, got {one!r} in it")
    return found
