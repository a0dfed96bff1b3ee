"""Anything that configures a run, as plain JSON values: how a run says what it was."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Plain", "changes", "describe", "finite"]

_ABSENT = object()

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


def describe(value: object) -> Plain:
    """A frozen record becomes ``{"type": its class, field: value, …}``; a function its qualified name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, numbers.Integral):  # numpy's numbers, too
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # What begins with an underscore is no setting: an executor counts there.
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        fields = {name: describe(getattr(value, name)) for name in names}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [describe(item) for item in items]
    if isinstance(value, Path):
        return str(value)
    name = getattr(value, "__qualname__", None) or type(value).__qualname__
    return f"{getattr(value, '__module__', type(value).__module__)}.{name}"


def changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Each setting that differs between two descriptions: "settings.epochs was 30, now 20"."""
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from changes(before, after, f"{prefix}{key}.")
        elif before != after:
            yield f"{prefix}{key} was {_brief(before)}, now {_brief(after)}"


def _brief(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    return f"{value.get('type', 'given')}(…)" if isinstance(value, Mapping) else repr(value)


def finite(value: Any) -> Any:
    """The same as JSON can hold: NaN and infinities become None, tuples lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
