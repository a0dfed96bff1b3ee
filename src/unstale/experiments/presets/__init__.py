"""The paper's tables and figure as data: a file each, every value of the paper with its evidence, scaled versions.

``table4.toml`` explains how the files are read.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from unstale.errors import ArgumentError, UnknownNameError
from unstale.experiments import paper
from unstale.experiments.recipes import PAPER

__all__ = ["EVIDENCE", "IN_EPOCHS", "NAMES", "OF_TASK", "SCALES", "Preset", "Value", "get"]

NAMES = ("table1", "table2", "table3", "table4", "table5", "table6", "figure_c8")
SCALES = ("digits", "text", "fashion", "paper")
"""Smallest first; a preset has some of them."""
EVIDENCE = {
    "A": "read in the authors' own public code",
    "T": "read in third-party code",
    "P": "read in the paper",
    "D": "derived",
    "M": "from memory of the literature, unverified",
    "O": "decided here, where the sources are silent",
}

_ABOUT = ("title", "kind", "table", "baseline_method", "reference_method", "scatter_at", "workloads")
IN_EPOCHS = ("warmup", "decay_at")
"""Epochs in the files, and fractions of the training everywhere else."""
OF_TASK = ("augmentation", "streams")
"""What a task decides, and a workload does not: of the paper's, only known to be compared with."""


@dataclass(frozen=True)
class Value:
    """A value of the paper's, and how it is known: a key of `EVIDENCE`."""

    value: Any
    evidence: str


@dataclass(frozen=True)
class Preset:
    """A table or figure of the paper.

    kind: what is made of the runs. table: its number in the package's copy of the paper's numbers, None if it is lost.
    paper: what was trained there, by name. scales: by name, what is trained instead; fractions of the training where
    the files have epochs. about: what else the file says.
    """

    name: str
    title: str
    kind: str
    table: int | None
    paper: Mapping[str, Value]
    scales: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scale(self) -> str:
        """The smallest scale."""
        return next(iter(self.scales))

    def workload(self, scale: str | None = None) -> dict[str, Any]:
        """All that decides the runs at a scale, by name. Raises `UnknownNameError` for a scale it does not have."""
        scale = scale or self.scale
        if scale not in self.scales:
            raise UnknownNameError(f"scale of {self.name}", scale, self.scales)
        left = OF_TASK if scale == "paper" else (*OF_TASK, "baseline")
        inherited = {name: value.value for name, value in self.paper.items() if name not in left}
        changed = self.scales[scale]
        if "epochs" in changed:
            inherited.pop("steps", None)
        return {"seeds": 3, **inherited, **changed}


@cache
def get(name: str) -> Preset:
    """A preset by its name. Raises `UnknownNameError` for another one."""
    plain = name.replace("-", "_")
    if plain not in NAMES:
        raise UnknownNameError("table or figure", name, [name.replace("_", "-") for name in NAMES])
    return parse(plain, (files(__name__) / f"{plain}.toml").read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Preset:
    """A preset from the text of its file. Raises `ArgumentError` for a file that is not one."""
    try:
        content = tomllib.loads(text)
        there = {key: Value(*pair) for key, pair in content.pop("paper").items()}
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{name}.toml must be TOML with a [paper] of values with evidence, got {error!r}"
        ) from error
    for key, value in there.items():
        if value.evidence not in EVIDENCE:
            known = ", ".join(EVIDENCE)
            raise ArgumentError(f"{name}.toml: {key} must have evidence among {known}, got {value.evidence!r}")
    table = content.get("table")
    if table is not None:
        there = {**dict(_of_table(table)), **there}
    there.setdefault("methods", Value(list(PAPER), "P"))
    length = there["epochs"].value if "epochs" in there else None
    published = {key: Value(_fraction(key, value.value, length), value.evidence) for key, value in there.items()}
    scales = {}
    for scale in SCALES:
        section = {} if scale == "paper" else content.pop(scale, None)
        if section is not None:
            epochs = section.get("epochs")
            scales[scale] = {key: _fraction(key, value, epochs) for key, value in section.items()}
    strangers = sorted(set(content) - set(_ABOUT))
    if strangers:
        raise ArgumentError(
            f"{name}.toml may have {', '.join(_ABOUT)} and scales {', '.join(SCALES)}, got {strangers[0]}"
        )
    about = {key: value for key, value in content.items() if key not in ("title", "kind", "table")}
    return Preset(name, content["title"], content["kind"], table, published, scales, about)


def _of_table(number: int) -> Iterator[tuple[str, Value]]:
    rows = paper.table(number)
    present = set(rows["method"])
    yield "methods", Value([label for label in PAPER if label in present], "P")
    yield "workers", Value(sorted(int(n) for n in set(rows["workers"])), "P")


def _fraction(key: str, value: Any, epochs: float | None) -> Any:
    """Epochs as fractions of the training: those are the same at every length."""
    if key not in IN_EPOCHS or not value:
        return value
    if epochs is None:
        raise ArgumentError(f"{key} is in epochs, and needs epochs beside it")
    return [one / epochs for one in value] if isinstance(value, list) else value / epochs
