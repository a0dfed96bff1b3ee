"""Many runs, here or spread over others. A run that fails does not stop the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from unstale.engines.interrupts import interrupts_held
from unstale.errors import RunError, StoreError
from unstale.experiments import worker
from unstale.experiments.hands import Hands, Lane
from unstale.experiments.outline import Trial

__all__ = ["Failure", "Watcher", "carry_out"]

_Outcomes = Generator[tuple[Trial, str], None, None]
_HEED = 0.1  # seconds, by when Ctrl-C is noticed: between two accesses to futures, whose locks it would leave taken


@dataclass(frozen=True)
class Failure:
    """A run that did not finish, and why."""

    trial: Trial
    reason: str

    def __str__(self) -> str:
        return f"{self.trial}: {self.reason}"


class Watcher:
    """Looks on while runs are carried out. Override what you need."""

    def on_start(self, trial: Trial) -> None:
        """A run begins."""

    def on_done(self, trial: Trial, failure: Failure | None) -> None:
        """A run has ended, well or not."""


def carry_out(runs: worker.Runs, trials: Iterable[Trial], hands: Hands, watcher: Watcher) -> tuple[Failure, ...]:
    """Run and save each trial. What is computed does not depend on ``hands``.

    ``trials`` may be a generator: it is asked for the next one when there is somebody to do it.
    Raises `StoreError` as soon as a run cannot be saved; `KeyboardInterrupt` on Ctrl-C. Finished runs are kept.
    """
    outcomes = _here(runs, trials, watcher) if hands.alone else _spread(runs, trials, hands, watcher)
    failures = []
    with closing(outcomes):  # at once, when interrupted: what only the exit of Python closes finds its world gone
        for trial, reason in outcomes:
            failure = Failure(trial, reason) if reason else None
            failures += [failure] if failure else []
            watcher.on_done(trial, failure)
    return tuple(failures)


def _here(runs: worker.Runs, trials: Iterable[Trial], watcher: Watcher) -> _Outcomes:
    for trial in trials:
        watcher.on_start(trial)
        yield trial, runs.perform(trial)


def _spread(runs: worker.Runs, trials: Iterable[Trial], hands: Hands, watcher: Watcher) -> _Outcomes:
    waiting, idle = _Queue(trials), deque[Lane]()
    running: dict[Future[Any], tuple[Trial, Lane]] = {}
    died = Counter[Trial]()
    with interrupts_held() as let_through, hands.lanes(runs) as open_lane:
        while running or waiting:
            while len(running) < hands.count and waiting:
                lane = idle.popleft() if idle else open_lane()
                given = lane.give(waiting.first)
                if given is not None:
                    trial = waiting.take()
                    running[given] = trial, lane
                    if not died[trial]:
                        watcher.on_start(trial)
            let_through()
            for future in wait(running, _HEED, FIRST_COMPLETED).done:
                trial, lane = running.pop(future)
                outcome = lane.outcome(trial, future)
                if outcome is not None:
                    idle.append(lane)
                else:
                    died[trial] += 1
                    if died[trial] < hands.tries:
                        waiting.put_back(trial)
                        continue
                yield trial, lane.death if outcome is None else _reason(outcome)


class _Queue:
    """Looks no further ahead than one trial, for the next may depend on how earlier ones ended."""

    def __init__(self, trials: Iterable[Trial]) -> None:
        self._rest = iter(trials)
        self._ahead: list[Trial] = []

    def __bool__(self) -> bool:
        if not self._ahead:
            self._ahead = list(islice(self._rest, 1))
        return bool(self._ahead)

    @property
    def first(self) -> Trial:
        return self._ahead[-1]

    def take(self) -> Trial:
        return self._ahead.pop()

    def put_back(self, trial: Trial) -> None:
        self._ahead.append(trial)


def _reason(outcome: worker.Outcome) -> str:
    kind, message = outcome
    if kind == "store":
        raise StoreError(message)
    if kind == "unusable":
        raise RunError(message)
    return message
