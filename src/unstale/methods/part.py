"""What all parts share: declarations with nothing in them, and checks of their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from unstale import checks
from unstale.errors import ArgumentError, MethodError
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


def number(name: str, value: float, low: float, below: float = math.inf) -> None:
    """Check that a part's number is finite and ``low <= value < below``. Raises `MethodError`."""
    top = "" if below == math.inf else f" and below {below:g}"
    if not checks.is_finite(value) or value < low or value >= below:
        raise MethodError(f"{name} must be a finite number of at least {low:g}{top}, got {value!r}")


def whole(name: str, value: int, least: int) -> None:
    """Check that a part's number is whole and at least ``least``. Raises `MethodError`."""
    try:
        checks.whole(name, value, least)
    except ArgumentError as error:
        raise MethodError(str(error)) from None
