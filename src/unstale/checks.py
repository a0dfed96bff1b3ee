"""Checks of arguments: each message names the argument, the rule, the value and the remedy."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import TypeGuard

from unstale.errors import ArgumentError

__all__ = ["choice", "is_finite", "nonnegative", "number", "path", "positive", "seed", "set_number", "truth", "whole"]


def is_finite(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite real number, and no bool."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of a float
        return False


def number(name: str, value: object, accept: Callable[[float], bool], rule: str, remedy: str) -> float:
    """``value`` as a plain float, if it is finite and ``accept`` takes it."""
    if not is_finite(value) or not accept(float(value)):
        raise ArgumentError(f"{name} must {rule}, got {value!r}; {remedy}")
    return float(value)


def set_number(record: object, name: str, accept: Callable[[float], bool], rule: str, remedy: str) -> None:
    """Make a frozen record's field a plain float, under the same rules as `number`."""
    object.__setattr__(record, name, number(name, getattr(record, name), accept, rule, remedy))


def nonnegative(name: str, value: object) -> float:
    """``value`` as a float, finite and at least 0."""
    return number(name, value, lambda x: x >= 0, "be a finite number of at least 0", "pass 0 or more")


def positive(name: str, value: object) -> float:
    """``value`` as a float, finite and above 0."""
    return number(name, value, lambda x: x > 0, "be a finite number above 0", "pass more than 0")


def whole(name: str, value: object, least: int) -> int:
    """``value`` as an int of at least ``least``; no bool."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {value!r}; pass {least} or more")
    return int(value)


def truth(name: str, value: object) -> None:
    """True or False, and nothing that only counts as one of them."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{name} must be True or False, got {value!r}")


def seed(value: object) -> int:
    """``value`` as a seed that every generator takes: from 0 to 2⁶³ − 1."""
    number = whole("seed", value, 0)
    if number >= 2**63:
        raise ArgumentError(f"seed must be below 2**63, got {number}; pass a smaller one")
    return number


def path(name: str, value: object) -> Path:
    """``value`` as a path that a system could have."""
    if not isinstance(value, str | PathLike) or "\0" in str(value):
        raise ArgumentError(
            f"{name} must be a path, without NUL characters, got {value!r}; pass a file's or a folder's"
        )
    return Path(value)


def choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """One of a few words."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ArgumentError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
