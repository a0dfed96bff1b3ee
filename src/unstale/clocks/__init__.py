"""When workers finish: how long each gradient takes, as simulated time.

>>> clock = Gamma(cv=0.1, heterogeneity=0.6)
>>> worker, time, delay = clock.schedule(workers=32, pushes=100_000, seed=0)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

from unstale.clocks.base import Clock, DurationStream, RandomClock
from unstale.clocks.constant import Constant
from unstale.clocks.gamma import Gamma
from unstale.clocks.preemption import Preemption
from unstale.clocks.schedule import Schedule
from unstale.clocks.tails import Pareto, ShiftedExponential
from unstale.clocks.trace import Trace
from unstale.errors import ArgumentError, UnknownNameError

__all__ = [
    "CLOCKS",
    "Clock",
    "Constant",
    "DurationStream",
    "Gamma",
    "Pareto",
    "Preemption",
    "RandomClock",
    "Schedule",
    "ShiftedExponential",
    "Trace",
    "get",
    "names",
]

CLOCKS: Mapping[str, type[Clock]] = MappingProxyType(
    {clock.name: clock for clock in (Constant, Gamma, Pareto, Preemption, ShiftedExponential, Trace)}
)
"""All clocks by name; each has a ``name``, a ``summary`` and a ``source``."""


def names() -> list[str]:
    """The names of all clocks, sorted."""
    return sorted(CLOCKS)


def get(name: str, **parameters: object) -> Clock:
    """The clock of that name: ``get("gamma", cv=0.2)`` is ``Gamma(cv=0.2)``, and ``path`` reads a trace.

    Raises: UnknownNameError for an unknown name; ArgumentError for a parameter that is unknown, missing or refused.
    """
    if name not in CLOCKS:
        raise UnknownNameError("clock", name, CLOCKS)
    read: Callable[..., Clock] | None = getattr(CLOCKS[name], "read", None)
    if read is not None and "path" in parameters:
        return read(**parameters)
    fields = dataclasses.fields(CLOCKS[name])
    allowed = sorted(field.name for field in fields)
    for parameter in parameters:
        if parameter not in allowed:
            raise ArgumentError(f"clock {name!r} has no parameter {parameter!r}; it has {', '.join(allowed)}")
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in parameters:
            file = ", or path=FILE" if read is not None else ""
            raise ArgumentError(f"clock {name!r} must be given {field.name}, got none; pass {field.name}=…{file}")
    return CLOCKS[name](**parameters)  # type: ignore[arg-type]
