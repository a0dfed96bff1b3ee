"""Run, or continue, what a table or figure of the paper needs; then show it beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unstale import checks
from unstale.experiments import reproduction, table1_runs
from unstale.experiments.conduct import run_missing
from unstale.experiments.hands import Jobs
from unstale.experiments.orders import Order
from unstale.experiments.reproduction import Reproduction
from unstale.experiments.specification import Specification
from unstale.experiments.store import Store
from unstale.experiments.table1 import Table1

__all__ = ["Job", "job", "reproduce"]


class Job(Protocol):
    """Checked, its folders open, ready to run."""

    def run(self, jobs: Jobs, progress: bool = False) -> Reproduction | Table1:
        """Run what is missing, write everything."""

    def kept(self) -> str:
        """How much is done, for whoever was interrupted."""


def reproduce(
    order: Order,
    out: str | Path,
    jobs: int | None = 1,
    *,
    engine: str = "processes",
    address: str | None = None,
    progress: bool = False,
) -> Reproduction | Table1:
    """Reproduce a table or figure in the folder ``out``; called again, it continues and repeats no finished run.

    jobs, engine, address: who carries it out, as for `unstale.compare`. progress: show a bar on standard error.
    Raises: ArgumentError for an order that cannot run here; StoreError if ``out`` cannot be written, or holds something
    else; KeyboardInterrupt on Ctrl-C, when finished runs are kept.
    """
    hired = Jobs(jobs, engine, address)
    return job(order, checks.path("out", out), "unstale.experiments.reproduce(…)").run(hired, progress)


def job(order: Order, out: Path, command: str) -> Job:
    """What carries out an order. Raises `ArgumentError` or `StoreError` before anything is run."""
    return _KINDS.get(order.preset.kind, _Grid.of)(order, out, command)


@dataclass(frozen=True)
class _Grid:
    """One comparison."""

    specification: Specification
    store: Store

    @classmethod
    def of(cls, order: Order, out: Path, command: str) -> _Grid:
        specification = order.specification()
        return cls(specification, order.open(specification, out, command))

    def run(self, jobs: Jobs, progress: bool = False) -> Reproduction:
        with self.store.claimed() as missing:
            comparison = run_missing(self.specification, self.store, missing, jobs, progress)
            made = reproduction.load(self.store.folder, comparison.failures)
            made.write()
        return made

    def kept(self) -> str:
        trials = self.store.outline().trials()
        done = sum(map(self.store.has, trials))
        return f"{done} of {len(trials)} runs are kept in {self.store.folder}"


_KINDS: dict[str, Callable[[Order, Path, str], Job]] = {"tuned": table1_runs.Tuned.of}
