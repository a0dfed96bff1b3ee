"""What a run was asked for on the command line, kept in its folder: its plan can be made again from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unstale import clocks, methods, tasks
from unstale.describe import Plain, describe
from unstale.engines import Live, Plan
from unstale.engines.live import Patience
from unstale.errors import StoreError
from unstale.events import SERVED
from unstale.schedules import Recipe
from unstale.storage import CONFIG, read_json, write_json, written
from unstale.tasks import Task

__all__ = ["CHECKPOINTS", "REQUEST", "Request", "keep_request", "live_of", "plan_of", "request_of"]

REQUEST, CHECKPOINTS = "request.json", "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A built-in task with its options, a published method, a clock with its options: each by name; and settings.

    settings: the other keywords of `Plan` that are not at their defaults; lr is a `Recipe`. engine: who computes; live:
    how real workers are run, as `live_of` takes it.
    """

    task: str
    method: str
    settings: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    clock: str = "gamma"
    clock_options: Mapping[str, Any] = field(default_factory=dict)
    engine: str = "simulate"
    live: Mapping[str, Any] = field(default_factory=dict)

    def plan(self, task: Task | None = None) -> Plan:
        """The plan; ``task`` where it is there already."""
        return Plan(
            task=tasks.get(self.task, **self.options) if task is None else task,
            method=methods.get(self.method),
            clock=clocks.get(self.clock, **self.clock_options),
            **self.settings,
        )

    def describe(self) -> dict[str, Plain]:
        """As JSON values."""
        described = describe(self)
        assert isinstance(described, dict)
        return {name: value for name, value in described.items() if name != "type"}

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Request:
        """From `describe`."""
        told = _as_given(document)
        rate = {name: value for name, value in told["settings"]["lr"].items() if name != "type"}
        return cls(**{**told, "settings": {**told["settings"], "lr": Recipe(**rate)}})


def live_of(options: Mapping[str, Any], record: Path | None = None) -> Live:
    """How real workers are run: max_restarts, and what else `Live` takes, at its default where not given."""
    given = dict(options)
    patience = {"max_restarts": given.pop("max_restarts")} if "max_restarts" in given else {}
    return Live(patience=Patience(**patience), record=record, **given)


def keep_request(folder: Path, request: Request) -> None:
    """Before the run begins. Raises `StoreError` if it cannot be written."""
    with written(folder) as new:
        write_json(new / REQUEST, request.describe())


def request_of(folder: Path) -> Request:
    """What the run in ``folder`` was asked for. Raises `StoreError` if that is not there, or damaged."""
    path = folder / REQUEST
    if not path.exists():
        if not folder.is_dir() or not ((folder / CONFIG).exists() or (folder / CHECKPOINTS).exists()):
            raise StoreError(f"{folder} holds no run; pass a folder that `unstale train --out` has written")
        if (folder / SERVED).exists():
            raise StoreError(f"{folder} holds what scripts of your own have trained; only they can compute it again")
        raise StoreError(
            f"{folder} does not say how its plan was made, as a run begun in Python does not; go on in Python, where "
            f"the task is: unstale.train(task, …, resume=…), or unstale.replay(folder, plan=unstale.engines.Plan(…))"
        )
    try:
        return Request.of(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}); delete {folder} and run it again") from error


def plan_of(folder: str | Path) -> Plan:
    """The plan of the run in ``folder``, made again.

    Raises `StoreError` for a run that was begun in Python, whose task is not built in; `DataError` if its data are not
    where they were.
    """
    return request_of(Path(folder)).plan()


def _as_given(value: Any) -> Any:
    """JSON has no tuples; options have no lists."""
    if isinstance(value, list):
        return tuple(map(_as_given, value))
    return {name: _as_given(item) for name, item in value.items()} if isinstance(value, dict) else value
