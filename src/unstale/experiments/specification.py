"""What is to be compared: a task, methods by label, numbers of workers, seeds, and the settings that all runs share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from unstale import checks, methods
from unstale.describe import Plain, describe
from unstale.engines import Plan
from unstale.errors import ArgumentError
from unstale.experiments.outline import BASELINE, REFERENCE, Trial
from unstale.methods import Method
from unstale.methods.catalogue import parse
from unstale.tasks import Task

__all__ = ["Methods", "Specification", "labelled"]

Methods = Mapping[str, str | Method] | Iterable[str | Method]
"""Names such as "ga" or "ga(per=layer)", or `Method` objects; a mapping gives them labels."""

_GIVEN_BY_TRIAL = ("task", "method", "workers", "seed")
_LONGEST_LABEL = 40


@dataclass(frozen=True, eq=False)
class Specification:
    """A comparison, before any run. Make one with `Specification.of`, which checks everything.

    usual: arguments, such as momentum, for every method that is given by name, takes them, and does not say otherwise;
    for the baseline and synchronous training too.
    """

    task: Task
    methods: Mapping[str, Method]
    workers: tuple[int, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    baseline: str = BASELINE
    reference: str = REFERENCE
    usual: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        task: Task,
        methods: Methods,
        workers: int | Iterable[int],
        seeds: int | Sequence[int],
        settings: Mapping[str, Any],
        caller: str = "compare",
        *,
        baseline: str = BASELINE,
        reference: str = REFERENCE,
        usual: Mapping[str, Any] | None = None,
    ) -> Specification:
        """Raises `ArgumentError` for anything that could not run."""
        allowed = sorted(set(Plan.__dataclass_fields__) - set(_GIVEN_BY_TRIAL))
        for name in sorted(set(settings) - set(allowed)):
            raise ArgumentError(f"{caller}() has no argument {name!r}; its settings are {', '.join(allowed)}")
        named, usual = labelled(methods, usual or {}), dict(usual or {})
        counts = _numbers("workers", workers, 1), _seeds(seeds)
        made = cls(task, named, *counts, dict(settings), baseline, reference, usual)
        for label in made.methods:
            for n in made.workers:
                made.plan(Trial(label, n, made.seeds[0]))
        return made

    @property
    def device(self) -> str:
        """Where all runs compute."""
        return str(self.settings.get("device", "cpu"))

    @cached_property
    def _runnable(self) -> dict[str, Method]:
        compared = {label: _made(label, self.usual) for label in (self.baseline, self.reference) if label}
        return {**compared, **self.methods}

    def plan(self, trial: Trial) -> Plan:
        """The plan of one run."""
        method = self._runnable[trial.label]
        return Plan(task=self.task, method=method, workers=trial.workers, seed=trial.seed, **self.settings)

    def describe(self) -> dict[str, Plain]:
        """All that decides what the runs will be, as JSON values."""
        plan = self.plan(Trial(self.baseline, 1, self.seeds[0])).describe()
        named = {"baseline": (self.baseline, BASELINE), "reference": (self.reference, REFERENCE)}
        labels = [label for label in (self.baseline, self.reference) if label]
        changed = {label: self._runnable[label] for label in labels if self._runnable[label] != methods.get(label)}
        return {
            "task": plan["task"],
            "methods": {label: describe(method) for label, method in self.methods.items()},
            "workers": list(self.workers),
            "seeds": list(self.seeds),
            "settings": {name: value for name, value in plan.items() if name not in _GIVEN_BY_TRIAL},
            **{name: value for name, (value, usual) in named.items() if value != usual},
            **({"compared_with": describe(changed)} if changed else {}),
        }

    def synchronous_times(self) -> dict[str, Plain]:
        """By workers and seed, how long synchronous training of the same epochs takes on the same clock."""
        plan = self.plan(Trial(self.baseline, 1, self.seeds[0]))
        return {
            str(n): {str(seed): plan.clock.synchronous_time(n, plan.pushes, seed) for seed in self.seeds}
            for n in sorted({1, *self.workers})
        }


def labelled(given: Methods, usual: Mapping[str, Any]) -> dict[str, Method]:
    """Methods by label: a mapping's own, the name as it is written, or a method's name. usual: see `Specification`.

    Raises `ArgumentError` for labels that are taken twice, unusable, or that belong to the baseline.
    """
    pairs = list(given.items()) if isinstance(given, Mapping) else [(_label(m), m) for m in _listed(given)]
    if not pairs:
        raise ArgumentError("methods must name at least one method, got none; pass for example ('asgd', 'dana_ga')")
    made: dict[str, Method] = {}
    for label, method in pairs:
        if not isinstance(label, str) or not label.strip() or not label.isprintable() or len(label) > _LONGEST_LABEL:
            raise ArgumentError(f"a method's label must be a line of 1 to {_LONGEST_LABEL} characters, got {label!r}")
        if label in made:
            raise ArgumentError(f"labels of methods must differ, got {label!r} twice; pass a dict of label: method")
        made[label] = _made(method, usual)
    for label in {BASELINE, REFERENCE} & set(made):
        if made[label] != _made(label, usual):
            raise ArgumentError(
                f"label {label!r} belongs to the method that all are compared with; choose another label"
            )
    return made


def _made(method: str | Method, usual: Mapping[str, Any]) -> Method:
    if isinstance(method, Method):
        return method
    name, written = parse(method)
    takes = methods.catalogue()[name].defaults if name in methods.names() else {}
    return methods.get(method, **{key: value for key, value in usual.items() if key in takes and key not in written})


def _listed(given: object) -> list[str | Method]:
    if isinstance(given, str | Method):
        return [given]
    if not isinstance(given, Iterable):
        raise ArgumentError(f"methods must be names or Method objects, got {given!r}")
    return list(given)


def _label(method: object) -> str:
    return method.name if isinstance(method, Method) else re.sub(r"\s+", "", str(method))


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        return _numbers("seeds", seeds, 0)
    return tuple(range(checks.whole("seeds", seeds, 1)))


def _numbers(name: str, values: object, least: int) -> tuple[int, ...]:
    listed = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    if not listed:
        raise ArgumentError(f"{name} must be at least one number, got none")
    return tuple(sorted({checks.whole(name, value, least) for value in listed}))
