"""Look for the best learning rate, momentum and the like of one method, over a grid or by optuna's TPE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unstale import checks
from unstale.errors import ArgumentError
from unstale.experiments.conduct import settled, watching
from unstale.experiments.hands import Jobs
from unstale.experiments.outline import Trial
from unstale.experiments.points import LABEL, Made, Points, check_space, initial
from unstale.experiments.pool import Failure, Watcher, carry_out
from unstale.experiments.space import Point, Space, grid_points, make_space, written
from unstale.experiments.specification import Specification
from unstale.experiments.store import in_folder
from unstale.experiments.study import Median, Study, load_optuna, opened
from unstale.experiments.tuned import Tuning, TuningStore
from unstale.tasks import Task

__all__ = ["Search", "tune"]


def tune(
    task: Task,
    method: Made = "nag_asgd",
    workers: int = 32,
    *,
    grid: str | None = None,
    space: Mapping[str, object] | None = None,
    trials: int | None = None,
    seeds: int | Sequence[int] = 1,
    out: str | Path | None = None,
    jobs: int | None = 1,
    engine: str = "processes",
    address: str | None = None,
    prune: bool | None = None,
    progress: bool = False,
    **plan: Any,
) -> Tuning:
    """Train a method with many settings, and say which are best: the mean score over the seeds decides.

    Everything is kept in ``out``: called again with the same arguments, it continues, and repeats no finished trial.

    task, workers, jobs, engine, address, progress, plan: as for `unstale.compare`; values of the space replace the
        plan's.
    method: a name, a function that makes a `Method` from its keywords, such as ``unstale.methods.ga``, or a `Method`.
    grid: "paper70", the default: momentum 0 to 0.9 by learning rate 0.1 · {1/32 … 2}. That grid is ours; the 70
        settings of Barkai et al. 2020 (table 1) are not known. With momentum 0, ``nag_asgd`` is plain ASGD.
    space: values by name instead: "0..0.99", "log:0.001..1", "int:16..128", or a list. Names are the method's own
        arguments and lr, weight_decay, batch_size; warmup and factor with a `Recipe`.
    trials: how many, chosen by TPE; None, where every name has a list: every combination.
    prune: give up, at an evaluation, what is worse than the median of earlier trials; None: with TPE only.

    Raises: ArgumentError for arguments that cannot work; MissingPackageError without optuna; StoreError if ``out``
    cannot be written, or holds something else; KeyboardInterrupt on Ctrl-C, when finished trials are kept.
    """
    search = Search.of(task, method, workers, make_space(grid, space), trials, seeds, prune, plan)
    hired = Jobs(jobs, engine, address)
    search.check(hired)
    return in_folder(out, lambda folder: search.carry_out(search.open(folder, "unstale.tune(…)"), hired, progress))


@dataclass(frozen=True)
class Search:
    """A tuning, before any trial. Make one with `Search.of`, which checks everything."""

    specification: Specification
    made: Made
    space: Space
    trials: int | None
    prune: bool

    @classmethod
    def of(
        cls,
        task: Task,
        method: Made,
        workers: int,
        space: Space,
        trials: int | None,
        seeds: int | Sequence[int],
        prune: bool | None,
        plan: Mapping[str, Any],
    ) -> Search:
        """Raises `ArgumentError` for anything that could not run, `MissingPackageError` without optuna."""
        load_optuna()
        points = grid_points(space)
        if trials is not None:
            checks.whole("trials", trials, 1)
        elif points is None:
            raise ArgumentError(
                "trials must be given where the space has a range, got None; pass for example trials=50"
            )
        checks.whole("workers", workers, 1)
        named = {LABEL: initial(method, space)}
        specification = Specification.of(task, named, workers, seeds, plan, caller="tune")
        check_space(specification.plan(Trial(LABEL, workers, specification.seeds[0])), method, space)
        return cls(specification, method, space, trials, trials is not None if prune is None else prune)

    @property
    def total(self) -> int:
        """How many trials there will be."""
        return self.trials if self.trials is not None else len(grid_points(self.space) or ())

    def open(self, folder: Path, command: str) -> TuningStore:
        """The folder of this tuning, new or to be continued. Raises `StoreError` if it cannot be that."""
        made = {"command": command, "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
        about = self.specification.describe()
        name = self.made if isinstance(self.made, str) else initial(self.made, self.space).name
        about |= {"method": name, "space": TuningStore.described(self.space)}
        return TuningStore.open(folder, {"specification": about, "made": made})

    def check(self, jobs: Jobs) -> None:
        """Raises `ArgumentError` for those who cannot do it."""
        if jobs.engine == "ray" and self.prune:
            raise ArgumentError(
                "prune must be off with engine 'ray', whose runs do not see each other's scores, got on; pass "
                "prune=False (--no-prune)"
            )

    def carry_out(self, store: TuningStore, jobs: Jobs, progress: bool) -> Tuning:
        """What is not finished yet, then the pictures and tables; those are written on Ctrl-C, too."""
        plan = self.specification
        with store.locked(), opened(store.folder, self.space, bool(plan.task.higher_is_better), plan.seeds[0]) as study:
            study.recover()
            missing = self._missing(study)
            todo = [Trial(LABEL, plan.workers[0], seed) for seed in plan.seeds] * missing
            watch = Median(store.folder) if self.prune else None
            try:
                with jobs.hands(missing, plan.device) as hands:
                    points = Points(settled(plan, store, todo, hands), store, self.made, watch)
                    with watching(self.total, missing, hands.count, progress, "trials") as watcher:
                        desk = _Desk(study, points, watcher)
                        failures = carry_out(points, desk.trials(self._asked(study, missing)), hands, desk)
            finally:
                study.recover()
                Tuning.of(store, study).write()
            return Tuning.of(store, study, failures)

    def _missing(self, study: Study) -> int:
        finished = study.finished()
        if self.trials is not None:
            return max(0, self.trials - sum(t.state.name in ("COMPLETE", "PRUNED") for t in study.trials()))
        return sum(written(point) not in finished for point in grid_points(self.space) or ())

    def _asked(self, study: Study, missing: int) -> Iterator[tuple[int, Point]]:
        """Trials as the study gives them, one by one: first what a killed process left."""
        done = study.finished()
        left = iter(range(missing))
        for _ in range(min(study.waiting(), missing)):
            next(left)
            number, point = study.ask()
            done.add(written(point))
            yield number, point
        if self.trials is not None:
            yield from (study.ask() for _ in left)
        else:
            yield from (study.ask(p) for p in grid_points(self.space) or () if written(p) not in done)


class _Desk(Watcher):
    """Between the pool, which knows trials by their label, and the study, which knows them by number."""

    def __init__(self, study: Study, points: Points, watcher: Watcher) -> None:
        self._study, self._points, self._watcher = study, points, watcher
        self._numbers: dict[str, list[int]] = {}

    def trials(self, asked: Iterable[tuple[int, Point]]) -> Iterator[Trial]:
        """For the pool. A point that is being tried already waits for that one's end."""
        (workers,), first = self._points.specification.workers, self._points.specification.seeds[0]
        for number, point in asked:
            label = written(point)
            if label in self._numbers:
                self._numbers[label].append(number)
            else:
                self._numbers[label] = [number]
                yield Trial(label, workers, first)

    def on_start(self, trial: Trial) -> None:
        """Pass it on."""
        self._watcher.on_start(trial)

    def on_done(self, trial: Trial, failure: Failure | None) -> None:
        """Tell the study."""
        for number in self._numbers.pop(trial.label):
            if failure is not None:
                self._study.fail(number, failure.reason)
            else:
                self._study.tell(number, self._points.outcome(trial))
            self._watcher.on_done(trial, failure)
