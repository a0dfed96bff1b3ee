"""Train every method at several numbers of workers, and show what comes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unstale.engines.gradients import AUTO, strategy
from unstale.engines.simulate import settle
from unstale.experiments.comparison import Comparison
from unstale.experiments.hands import Hands, Jobs
from unstale.experiments.outline import Trial
from unstale.experiments.pool import Watcher, carry_out
from unstale.experiments.recipes import PAPER
from unstale.experiments.specification import Methods, Specification
from unstale.experiments.store import Store, in_folder
from unstale.experiments.worker import Runs
from unstale.tasks import Task

__all__ = ["compare", "open_store", "run_missing", "settled", "watching"]


def compare(
    task: Task,
    methods: Methods = PAPER,
    workers: int | Iterable[int] = (4, 8, 16, 32),
    seeds: int | Sequence[int] = 3,
    out: str | Path | None = None,
    jobs: int | None = 1,
    *,
    engine: str = "processes",
    address: str | None = None,
    progress: bool = False,
    **plan: Any,
) -> Comparison:
    """Train each method at each number of workers for each seed, and put the results side by side.

    The baseline, ``nag_asgd`` with one worker, always runs too, and synchronous training at the largest number of
    workers. Everything is kept in ``out``: called again with the same arguments, it continues where it was stopped.

    task: such as ``unstale.tasks.digits()``, or your own `Task`.
    methods: names, such as "ga" or "ga(per=layer)", or `Method` objects; a dict of label: method gives them labels.
    workers: numbers of workers. seeds: how many (0, 1, …), or which ones.
    out: a folder for the runs, results.csv, table.md and pictures; None: a temporary one.
    jobs: how many train at the same time; the results do not depend on it.
    engine: "processes" of this machine, or "ray": each run on an actor of the cluster at ``address`` ("auto" finds it;
        None: a local one), ``jobs=None`` for as many as it has room for. A run whose machine is lost begins anew.
    progress: show a bar on standard error.
    plan: settings that all runs share, as for `unstale.train`: lr, epochs, batch_size, clock, …

    A run that fails does not stop the others: see ``failures`` of the answer.
    Raises: ArgumentError for arguments that cannot work; StoreError if ``out`` cannot be written, or holds something
    else; KeyboardInterrupt on Ctrl-C, when finished runs are kept.
    """
    hired = Jobs(jobs, engine, address)
    specification = Specification.of(task, methods, workers, seeds, plan)

    def work(folder: Path) -> Comparison:
        store = open_store(specification, folder, "unstale.compare(…)")
        with store.claimed() as missing:
            comparison = run_missing(specification, store, missing, hired, progress)
            comparison.write()
        return comparison

    return in_folder(out, work)


def open_store(specification: Specification, folder: Path, command: str, **about: Any) -> Store:
    """The folder of this comparison, new or to be continued. Raises `StoreError` if it cannot be that.

    about: what else is worth keeping of how it was made, as JSON values.
    """
    made = {"command": command, "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), **about}
    document = {
        "specification": specification.describe(),
        "synchronous_time": specification.synchronous_times(),
        "made": made,
    }
    return Store.open(folder, document)


def run_missing(
    specification: Specification, store: Store, missing: Sequence[Trial], jobs: Jobs, progress: bool
) -> Comparison:
    """Carry out what is not finished yet. Raises `StoreError` if a run cannot be saved."""
    # All methods with one seed come before the next seed: an interrupted comparison is one with fewer seeds.
    ordered = sorted(missing, key=lambda trial: trial.seed)
    total = len(store.outline().trials())
    with jobs.hands(len(ordered), specification.device) as hands:
        specification = settled(specification, store, ordered, hands)
        with store.timed(hands.count), watching(total, len(ordered), hands.count, progress) as watcher:
            failures = carry_out(Runs(specification, store), ordered, hands, watcher)
    return Comparison.load(store.folder, failures)


def settled(specification: Specification, store: Store, missing: Sequence[Trial], hands: Hands) -> Specification:
    """With "auto" settled for all runs at once, and for those of a later continuation."""
    if not missing or strategy(specification.settings.get("strategy", AUTO)) is not None:
        return specification
    if store.strategy() is None:
        # At the largest number of workers, with this process's share of the machine; fewer workers take fewer lanes.
        trial = max(missing, key=lambda trial: trial.workers)
        plan = specification.plan(trial)
        chosen, why = settle(plan, pushes=len(missing) * plan.pushes // hands.count, threads=None if hands.alone else 1)
        store.keep_strategy(str(chosen), why)
    return replace(specification, settings={**specification.settings, "strategy": store.strategy()})


def watching(
    total: int, missing: int, jobs: int, progress: bool, what: str = "runs"
) -> AbstractContextManager[Watcher]:
    """A bar over ``total`` runs, of which so many are missing; nothing unless there is ``progress`` to show."""
    if not progress or not missing:
        return nullcontext(Watcher())
    from unstale.progress import RunsBar

    return RunsBar(total, total - missing, jobs, what=what)
