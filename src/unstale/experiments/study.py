"""The memory of a tuning: optuna's study in a SQLite file, which says what has been tried and what comes next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstale.callbacks import Callback, StopRun
from unstale.engines.interrupts import interrupts_held
from unstale.errors import MissingPackageError, StoreError
from unstale.experiments.points import Outcome, mean_score
from unstale.experiments.space import Point, Space, written

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

    from unstale.engines import Plan
    from unstale.record import Run

__all__ = ["STUDY", "Median", "Study", "load_optuna", "opened"]

STUDY = "study.db"
_NAME = "unstale"
_LABEL = "label"
_PATIENCE = 60  # seconds that one process waits for another to have written
INTERRUPTED = "interrupted"


class Study:
    """What has been tried. Get one from `opened`.

    Ctrl-C waits for the end of each access: half done, it would keep the file locked from the next one.
    """

    def __init__(self, study: optuna.Study, space: Space) -> None:
        self._study, self._space = study, space

    @interrupts_held()
    def trials(self) -> list[FrozenTrial]:
        """All there are, in order."""
        return self._study.get_trials(deepcopy=False)

    def finished(self) -> set[str]:
        """Labels of the points that need not be tried again."""
        return {t.user_attrs[_LABEL] for t in self.trials() if t.state.name in ("COMPLETE", "PRUNED")}

    @interrupts_held()
    def recover(self) -> None:
        """Mark what a killed process was at as failed, and put its point in front."""
        trials = self.trials()
        waiting = [t.system_attrs.get("fixed_params") for t in trials if t.state.name == "WAITING"]
        for trial in trials:
            if trial.state.name == "RUNNING":
                if _LABEL in trial.user_attrs and trial.params not in waiting:
                    self._study.enqueue_trial(trial.params)
                self.fail(trial.number, INTERRUPTED)

    def waiting(self) -> int:
        """Points that were put in front and not tried yet."""
        return sum(trial.state.name == "WAITING" for trial in self.trials())

    @interrupts_held()
    def ask(self, point: Point | None = None) -> tuple[int, Point]:
        """Number and values of the next trial: what is waiting, then ``point``, or what the sampler likes best."""
        if point is not None:
            self._study.enqueue_trial(dict(point))
        trial = self._study.ask()
        chosen = {name: dimension.suggest(trial, name) for name, dimension in self._space.items()}
        trial.set_user_attr(_LABEL, written(chosen))
        return trial.number, chosen

    @interrupts_held()
    def tell(self, number: int, outcome: Outcome) -> None:
        """What came of it. A point without a score is the worst there is."""
        import optuna

        self._note(number, scores=list(outcome.scores), diverged=outcome.diverged, seconds=outcome.seconds)
        if outcome.pruned:
            self._study.tell(number, state=optuna.trial.TrialState.PRUNED)
            return
        worst = -math.inf if self._study.direction.name == "MAXIMIZE" else math.inf
        score = mean_score(outcome.scores)
        self._study.tell(number, score if math.isfinite(score) else worst)

    @interrupts_held()
    def fail(self, number: int, reason: str) -> None:
        """It did not finish, and will be tried again by whoever continues."""
        import optuna

        self._note(number, reason=reason)
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    def _note(self, number: int, **values: object) -> None:
        trial = self.trials()[number]
        for name, value in values.items():
            self._study._storage.set_trial_user_attr(trial._trial_id, name, value)


@dataclass(frozen=True)
class Median:
    """Stops a run whose score is worse, at an evaluation, than the median of the earlier trials at theirs.

    Called in the process that runs a point: gives the callback that tells the study, and asks it.
    """

    folder: Path

    def __call__(self, label: str) -> Callback:
        """The callback of one run."""
        return _Pruning(self.folder, label)


class _Pruning(Callback):
    def __init__(self, folder: Path, label: str) -> None:
        self._folder, self._label, self._step = folder, label, 0
        self._open = ExitStack()

    def on_start(self, plan: Plan) -> None:
        """Find the trial."""
        import optuna

        storage = self._open.enter_context(_storage(self._folder))
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5)
        study = optuna.load_study(study_name=_NAME, storage=storage, pruner=pruner)
        running = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING])
        mine = [found._trial_id for found in running if found.user_attrs.get(_LABEL) == self._label]
        self._trials = [optuna.trial.Trial(study, number) for number in mine]

    def on_evaluation(self, row: Mapping[str, Any]) -> None:
        """The first one is of the untrained model, and says nothing."""
        step, self._step = self._step, self._step + 1
        for trial in self._trials if step else ():
            trial.report(float(row["score"]), step)
            if trial.should_prune():
                raise StopRun

    def on_end(self, run: Run) -> None:
        """Let go of the file."""
        self._open.close()


@contextmanager
def opened(folder: Path, space: Space, higher_is_better: bool, seed: int = 0) -> Iterator[Study]:
    """The study in a folder, made if there is none. Raises `MissingPackageError`, or `StoreError` if it is damaged."""
    optuna = load_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _quiet(), _storage(folder) as storage:
            study = optuna.create_study(
                storage=storage,
                study_name=_NAME,
                direction="maximize" if higher_is_better else "minimize",
                load_if_exists=True,
            )
            # Another seed for each continuation, lest it asks for the same points again.
            study.sampler = optuna.samplers.TPESampler(seed=(seed + len(study.get_trials(deepcopy=False))) % 2**32)
            yield Study(study, space)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"{folder / STUDY} cannot be used ({reason}); delete {folder} and tune again") from error


@contextmanager
def _storage(folder: Path) -> Iterator[optuna.storages.RDBStorage]:
    options = {"connect_args": {"timeout": _PATIENCE}}
    storage = load_optuna().storages.RDBStorage(f"sqlite:///{(folder / STUDY).absolute()}", engine_kwargs=options)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna tells nothing on standard error meanwhile."""
    optuna = load_optuna()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def load_optuna() -> Any:
    """The package. Raises `MissingPackageError` if it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise MissingPackageError("tuning", "optuna", "tune") from error
    return optuna
