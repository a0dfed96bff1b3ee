"""What all parts share: declarations with nothing in them, and checks of their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from unstale.errors import MethodError
from unstale.methods.block import State

__all__ = ["Part", "number", "whole"]


class Part:
    """A frozen, stateless piece of a method. Derive your own from it, or just have the same attributes.

    ``state`` is what it keeps between pushes, ``needs`` what it reads from others, ``gives`` which of its own fields
    others may read, ``remedy`` what to do when a need is not met.
    """

    state: ClassVar[Mapping[str, State]] = {}
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[tuple[str, ...]] = ()


def number(name: str, value: float, low: float, high: float = math.inf, *, open_top: bool = False) -> None:
    """Check ``low <= value <= high`` (``< high`` with ``open_top``), finite, and no bool."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < low or value > high or (open_top and value == high):
        top = "" if high == math.inf else f" and {'below' if open_top else 'at most'} {high:g}"
        raise MethodError(f"{name} must be a finite number of at least {low:g}{top}, got {value!r}")


def whole(name: str, value: int, low: int) -> None:
    """Check that ``value`` is an int of at least ``low``, and no bool."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise MethodError(f"{name} must be a whole number of at least {low}, got {value!r}")
