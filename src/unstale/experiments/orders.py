"""A preset at a scale, with what the user has changed, made into a comparison that can run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from unstale import clocks, tasks
from unstale.clocks import Clock
from unstale.engines import Plan
from unstale.errors import ArgumentError
from unstale.experiments.conduct import open_store
from unstale.experiments.outline import BASELINE, REFERENCE
from unstale.experiments.presets import Preset, get
from unstale.experiments.specification import Specification
from unstale.experiments.store import Store
from unstale.schedules import Recipe
from unstale.tasks import Task

__all__ = ["Order"]

_NOT_OF_THE_PLAN = (
    *("task", "model", "task_options", "steps", "methods", "workers", "seeds", "clock", "baseline"),
    *("momentum", "lr", "warmup", "decay", "decay_at", "decay_factor"),
)


@dataclass(frozen=True)
class Order:
    """What is to be reproduced.

    changes: values by the preset's names, such as seeds, workers, methods, epochs, device; options of the task are
    added to the preset's. clock: None for the preset's.
    """

    preset: Preset
    scale: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    clock: Clock | None = None

    @classmethod
    def of(cls, name: str, scale: str | None = None, clock: Clock | None = None, **changes: Any) -> Order:
        """Raises `UnknownNameError` for a table or a scale that there is not."""
        preset = get(name)
        chosen = scale or preset.scale
        preset.workload(chosen)
        return cls(preset, chosen, {key: value for key, value in changes.items() if value is not None}, clock)

    @cached_property
    def workload(self) -> dict[str, Any]:
        """All that decides the runs, as plain values."""
        workload = self.preset.workload(self.scale)
        options = {**workload.get("task_options", {}), **self.changes.get("task_options", {})}
        changed = {**workload, **self.changes, **({"task_options": options} if options else {})}
        if "epochs" in self.changes:
            changed.pop("steps", None)
        if self.clock is not None:
            changed["clock"] = _named(self.clock)
        return changed

    def specification(self) -> Specification:
        """The comparison. Raises `ArgumentError`, saying what is missing, for a preset that cannot run here."""
        about, given = self.preset.about, self.workload
        with self._explained():
            _check_options(given.get("task_options", {}))
            task = tasks.get(given["task"], model=given["model"], **given.get("task_options", {}))
            return Specification.of(
                *(task, given["methods"], given["workers"], given["seeds"], self._settings(task)),
                baseline=about.get("baseline_method", BASELINE),
                reference=about.get("reference_method", REFERENCE),
                usual={"momentum": given["momentum"]} if "momentum" in given else {},
            )

    def open(self, specification: Specification, folder: Path, command: str) -> Store:
        """Its folder, new or to be continued. Raises `StoreError` if it cannot be that."""
        made = {"preset": self.preset.name, "scale": self.scale, "workload": self.workload}
        return open_store(specification, folder, command, **made)

    def _settings(self, task: Task) -> dict[str, Any]:
        given = self.workload
        plan = {name: value for name, value in given.items() if name not in _NOT_OF_THE_PLAN}
        for name in plan:
            if name not in Plan.__dataclass_fields__:
                raise ArgumentError(f"it needs the setting {name!r}, which this version of unstale does not have")
        if "steps" in given:
            batches = task.batches(given["batch_size"], 0, given.get("drop_last", False))
            plan["epochs"] = given["steps"] / batches.per_epoch
        steps = {"at": tuple(given["decay_at"]), "factor": given["decay_factor"]} if "decay_at" in given else {}
        rate = Recipe(lr=given["lr"], warmup=given["warmup"], decay=given["decay"], **steps)
        return {**plan, "lr": rate, "clock": self.clock or clocks.get(given["clock"])}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ArgumentError as error:
            raise ArgumentError(f"{self.preset.name} at scale {self.scale} cannot run: {error}") from error


def _check_options(options: Mapping[str, Any]) -> None:
    for name in ("model", "task"):
        if name in options:
            raise ArgumentError(f"options of the task cannot name another {name}, got {options[name]!r}; leave it out")


def _named(clock: Clock) -> str:
    """ "gamma(heterogeneity=0.6)": what differs from its defaults."""
    usual = type(clock).__dataclass_fields__
    changed = {name: value for name, value in vars(clock).items() if name in usual and value != usual[name].default}
    inside = ", ".join(f"{name}={value}" for name, value in changed.items())
    return f"{clock.name}({inside})" if inside else clock.name
