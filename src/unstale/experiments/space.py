"""What is tuned: for each name the values that it may take, as a range or as a list."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unstale import checks
from unstale.errors import ArgumentError, UnknownNameError

if TYPE_CHECKING:
    import optuna

__all__ = ["GRIDS", "Choice", "Dimension", "Point", "Range", "Space", "grid_points", "make_space", "read", "written"]

Value = bool | int | float | str
Point = Mapping[str, Value]
"""One value for each name."""

_FORMS = "low..high, log:low..high, int:low..high, or values between commas"


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``; with ``log`` even over their logarithms, with ``whole`` whole ones only.

    Raises: ArgumentError unless low < high, both finite, above 0 with ``log``, and whole with ``whole``.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (checks.is_finite(self.low) and checks.is_finite(self.high) and self.low < self.high):
            raise ArgumentError(f"a range must go from a number up to a higher one, got {self.low}..{self.high}")
        if self.log and self.low <= 0:
            raise ArgumentError(f"a logarithmic range must begin above 0, got {self.low}..{self.high}")
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ArgumentError(f"a range of whole numbers must end in whole numbers, got {self.low}..{self.high}")

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that have to be possible for all to be."""
        return (int(self.low), int(self.high)) if self.whole else (float(self.low), float(self.high))

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """A value from optuna."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Choice:
    """One of a few values. Raises: ArgumentError if there are none, or not plain ones that differ."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(map(repr, self.values))) < len(self.values):
            raise ArgumentError(f"a list of values must hold different ones, at least one, got {self.values!r}")
        for value in self.values:
            if not isinstance(value, Value) or (isinstance(value, float) and not math.isfinite(value)):
                raise ArgumentError(f"values must be finite numbers, words, True or False, got {value!r}")

    @property
    def ends(self) -> tuple[Value, ...]:
        """The values that have to be possible for all to be."""
        return self.values

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """A value from optuna."""
        chosen = trial.suggest_categorical(name, self.values)
        assert chosen is not None
        return chosen


Dimension = Range | Choice
Space = Mapping[str, Dimension]

GRIDS: dict[str, Space] = {
    "paper70": {
        "momentum": Choice(tuple(k / 10 for k in range(10))),
        "lr": Choice(tuple(0.1 * 2.0**k for k in range(-5, 2))),
    }
}
"""Grids by name. ``paper70`` is ours: Barkai et al. 2020 (table 1) tune ASGD over 70 settings, which are not known.

With ``nag_asgd``; its γ = 0 is plain ASGD.
"""


def make_space(grid: str | None, space: Mapping[str, object] | None) -> Space:
    """From a grid's name, or from `Range`, `Choice`, text such as "log:0.001..1" or lists of values, by name.

    Raises `ArgumentError` for both, for nothing, and for what is not understood.
    """
    if space is None:
        grid = "paper70" if grid is None else grid
        if grid not in GRIDS:
            raise UnknownNameError("grid", grid, GRIDS)
        return GRIDS[grid]
    if grid is not None:
        raise ArgumentError(f"grid and space exclude each other, got grid={grid!r} and a space; leave one of them out")
    if not isinstance(space, Mapping) or not space:
        raise ArgumentError(f"space must give values by name, such as {{'lr': 'log:0.001..1'}}, got {space!r}")
    return {str(name): _dimension(str(name), given) for name, given in space.items()}


def grid_points(space: Space) -> list[Point] | None:
    """Every combination, in order; None if some name takes a whole range."""
    lists = [dimension.values for dimension in space.values() if isinstance(dimension, Choice)]
    if len(lists) < len(space):
        return None
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def written(point: Point) -> str:
    """A point as a label: ``momentum=0.9, lr=0.1``."""
    return ", ".join(f"{name}={value!r}" for name, value in point.items())


def read(label: str) -> Point:
    """A label as a point, exactly the one that was written."""
    call = ast.parse(f"point({label})", mode="eval").body
    assert isinstance(call, ast.Call)
    return {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}


def _dimension(name: str, given: object) -> Dimension:
    try:
        if isinstance(given, Range | Choice):
            return given
        if isinstance(given, str):
            return _parse(given)
        if isinstance(given, Sequence):
            return Choice(tuple(given))
    except ArgumentError as error:
        raise ArgumentError(f"space of {name!r}: {error}; write {_FORMS}") from None
    raise ArgumentError(f"space of {name!r} must be {_FORMS}, got {given!r}")


def _parse(text: str) -> Dimension:
    *forms, body = (part.strip() for part in text.split(":"))
    low, dots, high = body.partition("..")
    if not dots and not forms:
        return Choice(tuple(_values(body)))
    for form in forms:
        if form not in ("log", "int"):
            raise ArgumentError(f"unknown form {form!r} in {text!r}")
    try:
        return Range(float(low), float(high), log="log" in forms, whole="int" in forms)
    except ValueError as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"a range must be two numbers with .. between them, got {text!r}") from None


def _values(text: str) -> Iterator[Value]:
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            yield ast.literal_eval(part)
        except (ValueError, SyntaxError):
            yield part
