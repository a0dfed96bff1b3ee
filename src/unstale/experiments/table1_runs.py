"""The runs of table 1, carried out: the untuned comparison, the tuning, and what was found, on every seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import unstale
from unstale.errors import ArgumentError, RunError
from unstale.experiments import presets
from unstale.experiments.claims import TUNED
from unstale.experiments.conduct import open_store, run_missing
from unstale.experiments.hands import Jobs
from unstale.experiments.orders import Order
from unstale.experiments.pool import Failure
from unstale.experiments.specification import Specification
from unstale.experiments.store import Store
from unstale.experiments.table1 import TUNED_RUNS, TUNING, UNTUNED, Table1

__all__ = ["Tuned"]


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

    def run(self, jobs: Jobs, progress: bool = False) -> Table1:
        """Run or continue everything, and write it."""
        failures: list[Failure] = []
        for name, (_, specification, store) in self.orders.items():
            with store.claimed() as missing:
                untuned = run_missing(specification, store, missing, jobs, progress)
            chosen = self._tune(specification, self.folder / name / TUNING, jobs, progress)
            tuned_specification = _with(specification, **chosen)
            tuned_store = open_store(tuned_specification, self.folder / name / TUNED_RUNS, self.command)
            with tuned_store.claimed() as missing:
                tuned = run_missing(tuned_specification, tuned_store, missing, jobs, progress)
            failures += [*untuned.failures, *tuned.failures]
        made = Table1.load(self.folder, tuple(failures))
        made.write()
        return made

    def kept(self) -> str:
        """How much is done."""
        stores = [Store(self.folder / name / kind) for name in self.orders for kind in (UNTUNED, TUNED_RUNS)]
        there = [store for store in stores if store.exists()]
        done = sum(store.has(trial) for store in there for trial in store.outline().trials())
        return f"{done} runs and the finished trials of the tuning are kept in {self.folder}"

    def _tune(self, specification: Specification, folder: Path, jobs: Jobs, progress: bool) -> dict[str, float]:
        given = self.order.workload
        (workers,) = specification.workers
        study = _tuner()(
            specification.task,
            given["tune"],
            workers,
            grid=given["grid"],
            out=folder,
            jobs=jobs.count,
            engine=jobs.engine,
            address=jobs.address,
            progress=progress,
            seeds=[max(specification.seeds) + 1],  # the one that chooses does not judge
            **specification.settings,
        )
        if study.failures:
            raise RunError(f"{len(study.failures)} settings failed, such as {study.failures[0]}; run again to try them")
        if not study.best_params:
            raise RunError(f"no setting of the grid ended with a score; see {folder}")
        return {name: float(study.best_params[name]) for name in ("momentum", "lr")}


def _tuner() -> Any:
    """The tuning belongs to another part of the library. Raises `ArgumentError` where it is not there."""
    tune = getattr(unstale, "tune", None)
    if tune is None:
        raise ArgumentError("table1 needs unstale.tune, which this version of unstale lacks; reproduce another table")
    return tune


def _with(specification: Specification, momentum: float, lr: float) -> Specification:
    method = unstale.methods.nag_asgd(momentum=momentum)
    settings = {**specification.settings, "lr": dataclasses.replace(specification.settings["lr"], lr=lr)}
    counts = specification.workers, specification.seeds
    return Specification.of(specification.task, {TUNED: method}, *counts, settings, usual=specification.usual)
