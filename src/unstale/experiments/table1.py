"""Table 1: ASGD with the best of 70 settings at N = 32, against GA and DANA-GA with the baseline's hyper-parameters.

Each workload has a folder with three things: ``untuned``, a comparison; ``tuning``, a study; ``tuned``, the best
setting of that study, trained again on every seed. The study has a seed of its own: what chose does not judge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import unstale
from unstale.errors import ArgumentError, RunError
from unstale.experiments import claims_page, presets, reproduction
from unstale.experiments.claims import TUNED, sentences
from unstale.experiments.comparison import publish
from unstale.experiments.conduct import open_store, run_missing
from unstale.experiments.orders import Order
from unstale.experiments.pool import Failure
from unstale.experiments.reproduction import Reproduction
from unstale.experiments.specification import Specification
from unstale.experiments.store import Store
from unstale.experiments.tables import Cell, cells, markdown_rows

__all__ = ["Table1", "Tuned"]

UNTUNED, TUNING, TUNED_RUNS = "untuned", "tuning", "tuned"


@dataclass(frozen=True)
class Best:
    """What the tuning chose."""

    momentum: float
    lr: float
    score: float


@dataclass(frozen=True, eq=False)
class Table1:
    """By workload: the comparison of untuned methods with the tuned one's runs added, and what was chosen."""

    folder: Path
    title: str
    parts: Mapping[str, Reproduction]
    best: Mapping[str, Best]
    failures: tuple[Failure, ...] = ()

    @property
    def rows(self) -> list[tuple[str, Mapping[str, Cell]]]:
        """A line a workload."""
        return [(name, self._cells(part)) for name, part in self.parts.items()]

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns."""
        return next(iter(self.parts.values())).outline.labels

    @property
    def table(self) -> pd.DataFrame:
        """A row a run, as in table.csv: those of a comparison's results.csv, and the tuned momentum and lr."""
        frames = [
            part.comparison.results.assign(workload=name, momentum=self.best[name].momentum, lr=self.best[name].lr)
            for name, part in self.parts.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        return [
            f"{name}: {part.outline.subject}, N = {part.outline.largest}, {part.outline.seed_count}; {part.baseline}; "
            f"tuned: momentum {self.best[name].momentum:g}, lr {self.best[name].lr:g}. "
            + " ".join(f"{line}." for line in part.differences)
            for name, part in self.parts.items()
        ] + ["The paper's numbers for this table, and its grid, are not in this package; the grid is this library's."]

    def claims(self) -> list[str]:
        """Claim 6, for each workload."""
        said = {name: sentences(part.evidence) for name, part in self.parts.items()}
        return [f"{name}: {line}" for name, lines in said.items() for line in lines if line.startswith("Claim 6")]

    def write(self) -> list[Path]:
        """Write table.csv, table.md and claims.md. Raises `StoreError` if it cannot."""
        table = markdown_rows(("workload",), self.labels, [((name,), row) for name, row in self.rows])
        notes = "\n".join(f"- {note}" for note in self.notes())
        pages = [claims_page.page(part.evidence, f"{self.title}, {name}") for name, part in self.parts.items()]
        texts = {
            "table.md": f"# {self.title}, reproduced\n\n{table}\n\n{notes}\n",
            "claims.md": "\n".join(pages),
        }
        return publish(self.folder, {"table.csv": self.table}, texts, {})

    @staticmethod
    def _cells(part: Reproduction) -> Mapping[str, Cell]:
        made, n = cells(part.outline, part.comparison.results), part.outline.largest
        return {label: made[n, label] for label in part.outline.labels}


@dataclass(frozen=True)
class Tuned:
    """The runs of table 1, ready to be carried out."""

    order: Order
    orders: Mapping[str, tuple[Order, Specification, Store]]
    folder: Path
    command: str

    @classmethod
    def of(cls, order: Order, out: Path, command: str) -> Tuned:
        """Raises `ArgumentError` or `StoreError` before anything is run."""
        _tuner()
        given = order.workload
        changes = {name: value for name, value in given.items() if name not in ("tune", "grid")}
        orders = {}
        for name in order.preset.about["workloads"]:
            one = replace(order, preset=presets.get(name), changes=changes)
            specification = one.specification()
            if len(specification.workers) != 1:
                counts = ", ".join(map(str, specification.workers))
                raise ArgumentError(f"workers must be one number for table1, which tunes for it, got {counts}")
            orders[name] = one, specification, one.open(specification, out / name / UNTUNED, command)
        return cls(order, orders, out, command)

    def run(self, jobs: int = 1, progress: bool = False) -> Table1:
        """Run or continue everything, and write it."""
        parts: dict[str, Reproduction] = {}
        best: dict[str, Best] = {}
        failures: list[Failure] = []
        for name, (_, specification, store) in self.orders.items():
            with store.claimed() as missing:
                untuned = run_missing(specification, store, missing, jobs, progress)
            best[name] = self._tune(specification, self.folder / name / TUNING, jobs, progress)
            tuned_specification = _with(specification, best[name])
            tuned_store = open_store(tuned_specification, self.folder / name / TUNED_RUNS, self.command)
            with tuned_store.claimed() as missing:
                tuned = run_missing(tuned_specification, tuned_store, missing, jobs, progress)
            failures += [*untuned.failures, *tuned.failures]
            parts[name] = _joined(reproduction.load(store.folder), tuned.results)
        made = Table1(self.folder, self.order.preset.title, parts, best, tuple(failures))
        made.write()
        return made

    def kept(self) -> str:
        """How much is done."""
        stores = [Store(self.folder / name / kind) for name in self.orders for kind in (UNTUNED, TUNED_RUNS)]
        there = [store for store in stores if store.exists()]
        done = sum(store.has(trial) for store in there for trial in store.outline().trials())
        return f"{done} runs and the finished trials of the tuning are kept in {self.folder}"

    def _tune(self, specification: Specification, folder: Path, jobs: int, progress: bool) -> Best:
        given = self.order.workload
        (workers,) = specification.workers
        study = _tuner()(
            specification.task,
            given["tune"],
            workers,
            grid=given["grid"],
            out=folder,
            jobs=jobs,
            progress=progress,
            seeds=[max(specification.seeds) + 1],  # the one that chooses does not judge
            **specification.settings,
        )
        if study.failures:
            raise RunError(f"{len(study.failures)} settings failed, such as {study.failures[0]}; run again to try them")
        if not study.best_params:
            raise RunError(f"no setting of the grid ended with a score; see {folder}")
        return Best(float(study.best_params["momentum"]), float(study.best_params["lr"]), float(study.best_score))


def _tuner() -> Any:
    """The tuning belongs to another part of the library. Raises `ArgumentError` where it is not there."""
    tune = getattr(unstale, "tune", None)
    if tune is None:
        raise ArgumentError("table1 needs unstale.tune, which this version of unstale lacks; reproduce another table")
    return tune


def _with(specification: Specification, best: Best) -> Specification:
    method = unstale.methods.nag_asgd(momentum=best.momentum)
    lr = dataclasses.replace(specification.settings["lr"], lr=best.lr)
    settings = {**specification.settings, "lr": lr}
    return Specification.of(specification.task, {TUNED: method}, specification.workers, specification.seeds, settings)


def _joined(part: Reproduction, tuned: pd.DataFrame) -> Reproduction:
    """With the tuned method's runs, and their label as one more column."""
    comparison = part.comparison
    outline = replace(comparison.outline, labels=(TUNED, *comparison.outline.labels))
    rows = pd.concat([comparison.results, tuned[tuned["method"] == TUNED]], ignore_index=True)
    return replace(part, comparison=replace(comparison, outline=outline, results=rows))
