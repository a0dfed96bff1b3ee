"""From words on the command line to values."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from unstale.errors import ArgumentError

__all__ = ["named", "numbers", "split", "wholes"]


def split(text: str) -> list[str]:
    """At commas outside parentheses: "ga(per=layer, momentum=0.8),asgd" is two."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def wholes(name: str, text: str) -> list[int]:
    """Whole numbers between commas."""
    try:
        return [int(part) for part in split(text)]
    except ValueError:
        raise ArgumentError(f"{name} must be whole numbers between commas, such as 4,8,16, got {text!r}") from None


def numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        return tuple(float(part) for part in split(text))
    except ValueError:
        raise ArgumentError(f"{name} must be numbers between commas, such as 0.5,0.75, got {text!r}") from None


def named(name: str, pairs: Sequence[str]) -> dict[str, object]:
    """Values by name, from "cv=0.2": numbers, tuples, True, False and None as in Python, anything else as text."""
    values: dict[str, object] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key.strip().isidentifier():
            raise ArgumentError(f"{name} must be written name=value, such as cv=0.1, got {pair!r}")
        try:
            values[key.strip()] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            values[key.strip()] = text.strip()
    return values
