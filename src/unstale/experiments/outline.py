"""What a comparison is made of, as plain values: all that its tables and pictures need besides the runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from unstale.errors import StoreError

__all__ = ["BASELINE", "REFERENCE", "Outline", "Trial"]

BASELINE = "nag_asgd"
"""With one worker, what every method is measured against, unless a comparison names another."""
REFERENCE = "sync"
"""Synchronous training, drawn beside the others over simulated time."""


class Trial(NamedTuple):
    """One run of a comparison."""

    label: str
    workers: int
    seed: int

    @property
    def key(self) -> str:
        """A readable name for a folder, different for different trials: ``dana_ga-n32-s1``."""
        name = re.sub(r"[^A-Za-z0-9_.=]+", "_", self.label).strip("_.")
        if name != self.label:
            name = f"{name}-{hashlib.sha256(self.label.encode()).hexdigest()[:6]}"
        return f"{name}-n{self.workers}-s{self.seed}"

    def __str__(self) -> str:
        return f"{self.label}, N = {self.workers}, seed {self.seed}"


@dataclass(frozen=True)
class Outline:
    """What was compared.

    task: the task's description. labels: of the methods. settings: the plan's description, the same for all runs.
    synchronous_time: of synchronous training on the same clock, for each trial's (workers, seed).
    made: command and date. baseline_label: of what every method is measured against, with one worker.
    reference_label: of synchronous training; empty where there is none.
    """

    task: Mapping[str, Any]
    labels: tuple[str, ...]
    workers: tuple[int, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    synchronous_time: Mapping[tuple[int, int], float]
    made: Mapping[str, Any]
    baseline_label: str = BASELINE
    reference_label: str = REFERENCE

    @classmethod
    def of(cls, document: Mapping[str, Any], source: object = "comparison.json") -> Outline:
        """From the content of comparison.json. Raises `StoreError` if something is missing there."""
        try:
            specification = document["specification"]
            times = document["synchronous_time"]
            return cls(
                task=dict(specification["task"]),
                labels=tuple(specification["methods"]),
                workers=tuple(map(int, specification["workers"])),
                seeds=tuple(map(int, specification["seeds"])),
                settings=dict(specification["settings"]),
                synchronous_time={(int(n), seed): t for n in times for seed, t in _by_seed(times[n]).items()},
                made=dict(document["made"]),
                baseline_label=str(specification.get("baseline", BASELINE)),
                reference_label=str(specification.get("reference", REFERENCE)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{source} is damaged ({error!r}); delete its folder and compare again") from error

    @property
    def largest(self) -> int:
        """The largest number of workers."""
        return max(self.workers)

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is a better one."""
        return bool(self.task.get("higher_is_better", True))

    @property
    def sign(self) -> int:
        """1 if a higher score is better, else -1."""
        return 1 if self.higher_is_better else -1

    @property
    def score_name(self) -> str:
        """What a score is called, with its unit."""
        name = str(self.task.get("score_name", "score"))
        return "accuracy (%)" if name == "accuracy" else name

    @property
    def subject(self) -> str:
        """Task and model, as a title."""
        return f"{self.task.get('name')} / {self.task.get('model_name')}"

    @property
    def seed_count(self) -> str:
        """ "1 seed" or "3 seeds"."""
        return "1 seed" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"

    def baseline(self) -> list[Trial]:
        """The baseline's trials."""
        return [Trial(self.baseline_label, 1, seed) for seed in self.seeds]

    def grid(self) -> list[Trial]:
        """Every method at every number of workers, for every seed."""
        return [Trial(label, n, seed) for label in self.labels for n in self.workers for seed in self.seeds]

    def trials(self) -> list[Trial]:
        """All runs, each once: the baseline, the grid, and synchronous training at the largest number of workers."""
        labels = [self.reference_label] if self.reference_label else []
        reference = [Trial(label, self.largest, seed) for label in labels for seed in self.seeds]
        return list(dict.fromkeys([*self.baseline(), *self.grid(), *reference]))


def _by_seed(times: Mapping[str, Any]) -> dict[int, float]:
    return {int(seed): float(time) for seed, time in times.items()}
