"""A point of a space, trained: its values go into the method and the plan, and every seed is a run of its own."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from unstale import methods
from unstale.callbacks import Callback
from unstale.engines import Plan, simulate
from unstale.errors import ArgumentError
from unstale.experiments.outline import Trial
from unstale.experiments.space import Point, Space, Value, read
from unstale.experiments.worker import Runs
from unstale.methods import Method
from unstale.methods.catalogue import parse
from unstale.record import Run
from unstale.schedules import Recipe

__all__ = ["LABEL", "Made", "Outcome", "Points", "check_space", "initial", "mean_score", "tuned"]

Made = str | Method | Callable[..., Method]
"""What the tuned method is made from: a published name, a constructor such as ``methods.ga``, or a fixed `Method`."""

LABEL = "tuned"
"""What the tuned method is called in its specification; there, trials have points for labels."""
SETTINGS = ("lr", "warmup", "factor", "weight_decay", "batch_size")
"""What can be tuned besides a method's own arguments; warmup and factor where lr is a `Recipe`."""
_OF_RECIPE = ("lr", "warmup", "factor")


@dataclass(frozen=True)
class Outcome:
    """A point over its seeds. ``diverged``: in how many of them. ``pruned``: given up by the pruner."""

    scores: tuple[float, ...]
    diverged: int
    pruned: bool
    seconds: float


def mean_score(scores: Iterable[float]) -> float:
    """A point's score: the mean over its seeds, NaN or infinite if one of them is."""
    listed = list(scores)
    return sum(listed) / len(listed) if listed else math.nan


@dataclass(frozen=True)
class Points(Runs):
    """What is done with a point: a run for each seed, of which none is repeated.

    watch: what looks on while the first seed's run goes on, by label, and may stop it.
    """

    made: Made
    watch: Callable[[str], Callback] | None = None

    def run(self, trial: Trial) -> Run:
        """One seed's run."""
        first = trial.seed == self.specification.seeds[0]
        callbacks = (self.watch(trial.label),) if self.watch is not None and first else ()
        base = trial._replace(label=LABEL)
        return simulate(tuned(self.specification.plan(base), self.made, read(trial.label)), callbacks)

    def perform(self, trial: Trial) -> str:
        """All seeds, as far as they are not there yet; see `Runs.perform`."""
        for own in self.own(trial):
            if not self.store.has(own) and (reason := super().perform(own)):
                return reason if own == trial else f"with seed {own.seed}: {reason}"
            if self._pruned(own):
                break
        return ""

    def outcome(self, trial: Trial) -> Outcome:
        """What the runs of a point say. Raises `StoreError` if one is damaged."""
        there = [own for own in self.own(trial) if self.store.has(own)]
        summaries = [self.store.record(own)["summary"] for own in there]
        return Outcome(
            scores=tuple(float(summary["score"]) for summary in summaries),
            diverged=sum(bool(summary["diverged"]) for summary in summaries),
            pruned=any(map(self._pruned, there)),
            seconds=sum(float(summary["seconds"]) for summary in summaries),
        )

    def own(self, trial: Trial) -> Iterator[Trial]:
        """See `Runs.own`: one for each seed."""
        return (trial._replace(seed=seed) for seed in self.specification.seeds)

    def pieces(self) -> Iterator[tuple[str, object]]:
        """See `Runs.pieces`."""
        yield "method", self.made
        yield from super().pieces()

    def _pruned(self, own: Trial) -> bool:
        """A run that was stopped, and not because it had diverged."""
        summary = self.store.record(own)["summary"]
        return summary["status"] == "stopped" and not summary["diverged"] and not summary["nonfinite"]


def tuned(plan: Plan, made: Made, point: Point) -> Plan:
    """The plan with a point's values in it. Raises `ArgumentError` for values that break a rule."""
    own = {name: value for name, value in point.items() if name in _arguments(made)}
    rest: dict[str, Any] = {name: value for name, value in point.items() if name not in own}
    of_recipe = {name: rest.pop(name) for name in _OF_RECIPE if name in rest}
    if isinstance(plan.lr, Recipe):
        of_recipe = {"lr": replace(plan.lr, **of_recipe)} if of_recipe else {}
    return replace(plan, method=_method(made, own), **of_recipe, **rest)


def check_space(plan: Plan, made: Made, space: Space) -> None:
    """Raises `ArgumentError` for a name that cannot be tuned here, or for values that cannot be trained with."""
    settings = [name for name in SETTINGS if isinstance(plan.lr, Recipe) or name not in _OF_RECIPE]
    if not callable(plan.lr) and "lr" not in settings:
        settings.insert(0, "lr")
    arguments = _arguments(made)
    for name in space:
        if name not in (*arguments, *settings):
            own = ", ".join(arguments) or "it has none"
            raise ArgumentError(
                f"{name!r} cannot be tuned here: it is no argument of the method ({own}) "
                f"and no setting ({', '.join(settings)})"
            )
    first = {name: dimension.ends[0] for name, dimension in space.items()}
    for name, dimension in space.items():
        for value in dimension.ends:
            tuned(plan, made, {**first, name: value})


def initial(made: Made, space: Space) -> Method:
    """A method of the space. Raises `ArgumentError` if it cannot be made."""
    arguments = _arguments(made)
    return _method(made, {name: dimension.ends[0] for name, dimension in space.items() if name in arguments})


def _arguments(made: Made) -> list[str]:
    """Names of what the method's maker takes, apart from what is written already."""
    if isinstance(made, Method):
        return []
    if isinstance(made, str):
        methods.get(made)
        name, given = parse(made)
        return [argument for argument in methods.catalogue()[name].defaults if argument not in given]
    if not callable(made):
        raise ArgumentError(f"method must be a name, a Method or a function that makes one, got {made!r}")
    return list(inspect.signature(made).parameters)


def _method(made: Made, values: Mapping[str, Value]) -> Method:
    if isinstance(made, str | Method):
        return methods.get(made, **values)
    method = made(**values)
    if not isinstance(method, Method):
        raise ArgumentError(f"method must be a function that makes a Method, got {method!r} from {made!r}")
    return method
