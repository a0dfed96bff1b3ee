"""What there is: methods, tasks, clocks."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from unstale.cli.options import Json, Quiet
from unstale.cli.output import examples, out, print_json
from unstale.describe import describe
from unstale.errors import UnknownNameError

__all__ = ["clocks", "methods", "tasks"]

METHODS_EXAMPLES = examples("unstale methods", "unstale methods dana_ga", "unstale methods --json")
TASKS_EXAMPLES = examples("unstale tasks", "unstale tasks digits")
CLOCKS_EXAMPLES = examples("unstale clocks", "unstale clocks gamma")

Name = Annotated[str | None, typer.Argument(help="One of them, in full.", show_default=False)]


def methods(name: Name = None, quiet: Quiet = False, json: Json = False) -> None:
    """List the published methods, or show one: its parts, equation, defaults and citation."""
    from unstale.methods import catalogue, get
    from unstale.methods.catalogue import parse

    entries = catalogue()
    if name is None:
        rows = {key: {"summary": e.summary, "equation": e.equation, "source": e.source} for key, e in entries.items()}
        return _list(rows, quiet, json)
    method = get(name)
    entry = entries[parse(name)[0]]
    parts = {slot: describe(part) for slot, part in method.parts.items()}
    about = {
        "name": name,
        "summary": entry.summary,
        "equation": entry.equation,
        "parts": parts,
        "defaults": entry.defaults,
        "variants": [dict(variant) for variant in entry.variants],
        "source": entry.source,
    }
    return _detail(about, quiet, json)


def tasks(name: Name = None, quiet: Quiet = False, json: Json = False) -> None:
    """List the built-in tasks, or show one: what it takes, and the settings that suit it."""
    from unstale import tasks as room
    from unstale.experiments.recipes import recipes_of

    entries = room.catalogue()
    if name is None:
        return _list({key: {"summary": e.summary, "source": e.source} for key, e in entries.items()}, quiet, json)
    _check("task", name, entries)
    parameters = inspect.signature(getattr(room, name)).parameters
    about = {
        "name": name,
        "summary": entries[name].summary,
        "options": {key: parameter.default for key, parameter in parameters.items()},
        "recipes": {model: describe(found) for model, found in recipes_of(name).items()},
        "source": entries[name].source,
    }
    return _detail(about, quiet, json)


def clocks(name: Name = None, quiet: Quiet = False, json: Json = False) -> None:
    """List the clocks of simulated time, or show one: its law, parameters and source."""
    from unstale import clocks as room

    if name is None:
        return _list({key: {"summary": c.summary, "source": c.source} for key, c in room.CLOCKS.items()}, quiet, json)
    _check("clock", name, room.CLOCKS)
    clock = room.CLOCKS[name]
    parameters = {
        field.name: "required" if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(clock)
    }
    about = {
        "name": name,
        "summary": clock.summary,
        "law": " ".join((clock.__doc__ or "").split("Raises:")[0].replace("``", "").split()),
        "parameters": parameters,
        "source": clock.source,
    }
    return _detail(about, quiet, json)


def _check(kind: str, name: str, known: Iterable[str]) -> None:
    if name not in (known := list(known)):
        raise UnknownNameError(kind, name, known)


def _list(rows: Mapping[str, Mapping[str, Any]], quiet: bool, json: bool) -> None:
    """A paragraph each: name, what it is, where it comes from."""
    if json:
        return print_json([{"name": name, **row} for name, row in rows.items()])
    if quiet:
        return None
    table = Table.grid(padding=(0, 2))
    for name, row in rows.items():
        table.add_row(Text(name, "bold"), Text.assemble(row["summary"], "\n", (row["source"], "dim")))
    return out().print(table)


def _detail(about: Mapping[str, Any], quiet: bool, json: bool) -> None:
    if json:
        return print_json(about)
    if quiet:
        return None
    table = Table.grid(padding=(0, 2))
    for name, value in about.items():
        if value not in ({}, []):
            table.add_row(Text(name, "bold"), Text(_shown(value)))
    return out().print(table)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "\n".join(f"{name} = {_written(item)}" for name, item in value.items())
    return "\n".join(_written(item) for item in value) if isinstance(value, list) else str(value)


def _written(value: Any) -> str:
    """{"type": "Nesterov", "momentum": 0.9} → Nesterov(momentum=0.9)"""
    if not isinstance(value, Mapping):
        return str(value)
    inside = ", ".join(f"{name}={_written(item)}" for name, item in value.items() if name != "type")
    return f"{value['type']}({inside})" if "type" in value else inside
