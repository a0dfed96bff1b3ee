"""Checks of arguments: each names the argument, the rule, the value and the remedy."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from typing import TypeGuard

from unstale.errors import ArgumentError

__all__ = ["choice", "is_finite", "nonnegative", "positive", "whole"]


def is_finite(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite real number, and no bool."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of a float
        return False


def whole(name: str, value: object, least: int) -> int:
    """``value`` as an int of at least ``least``; no bool."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < least:
        raise ArgumentError(f"{name} must be a whole number of at least {least}, got {value!r}; pass {least} or more")
    return int(value)


def nonnegative(name: str, value: object) -> float:
    """``value`` as a float, finite and at least 0."""
    if not is_finite(value) or value < 0:
        raise ArgumentError(f"{name} must be a finite number of at least 0, got {value!r}; pass 0 or more")
    return float(value)


def positive(name: str, value: object) -> float:
    """``value`` as a float, finite and above 0."""
    if not is_finite(value) or value <= 0:
        raise ArgumentError(f"{name} must be a finite number above 0, got {value!r}; pass more than 0")
    return float(value)


def choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """One of a few words."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ArgumentError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
