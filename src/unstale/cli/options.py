"""The options that describe a run, which train and compare share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from unstale.cli import parse
from unstale.errors import ArgumentError

if TYPE_CHECKING:
    from unstale.clocks import Clock
    from unstale.experiments.request import Request
    from unstale.schedules import Recipe
    from unstale.tasks import Task

__all__ = ["Json", "Quiet", "Settings", "TaskName", "learning_rate", "takes_settings"]

_DATA, _RATE, _RUN, _TIME = "Task and model", "Learning rate", "Training", "Simulated time"

TaskName = Annotated[str, typer.Argument(help="What to train: see `unstale tasks`.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="A folder to save the run in.", show_default=False)]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(help="Pushes between checkpoints in that folder; one a minute if not given.", show_default=False),
]
Resume = Annotated[Path | None, typer.Option(help="Go on with the unfinished run in this folder.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _option(help_: str, panel: str, *names: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help_, rich_help_panel=panel, metavar=metavar, show_default=False)


@dataclass(frozen=True)
class Settings:
    """As given; None where the task's recipe decides."""

    model: Annotated[str | None, _option("The model, such as resnet20, wrn16_4, transformer_xl.", _DATA)] = None
    data: Annotated[str | None, _option("The folder of the task's files.", _DATA, metavar="ROOT")] = None
    task_option: Annotated[
        list[str] | None, _option("Of the task: width=4, root=/data; repeatable.", _DATA, metavar="NAME=VALUE")
    ] = None
    lr: Annotated[float | None, _option("One worker's learning rate.", _RATE)] = None
    warmup: Annotated[float | None, _option("Fraction of the training that warms up.", _RATE)] = None
    decay: Annotated[str | None, _option("steps, cosine or constant.", _RATE, metavar="KIND")] = None
    decay_at: Annotated[str | None, _option("Fractions, such as 0.5,0.75.", _RATE, metavar="LIST")] = None
    decay_factor: Annotated[float | None, _option("What a step multiplies it by.", _RATE)] = None
    epochs: Annotated[float | None, _option("Passes over the data, of all workers together.", _RUN)] = None
    batch_size: Annotated[int | None, _option("Examples in a gradient.", _RUN)] = None
    weight_decay: Annotated[float | None, _option("Weight decay.", _RUN)] = None
    clip: Annotated[float | None, _option("Largest norm of a gradient; longer ones are clipped.", _RUN)] = None
    drop_last: Annotated[
        bool | None, _option("Leave out an epoch's last, smaller batch.", _RUN, "--drop-last/--keep-last")
    ] = None
    eval_every: Annotated[float | None, _option("Epochs between evaluations.", _RUN)] = None
    batch_norm: Annotated[
        str | None, _option("Statistics: shared, per-worker or recalibrate.", _RUN, metavar="POLICY")
    ] = None
    on_nonfinite: Annotated[
        str | None, _option("NaN or Inf in a gradient: apply, reject or raise.", _RUN, metavar="POLICY")
    ] = None
    strategy: Annotated[
        str | None, _option("Gradients: auto, sequential, threads, 'batched(lanes=8)'.", _RUN, metavar="WAY")
    ] = None
    executor: Annotated[str | None, _option("Steps: auto, blocks or compiled.", _RUN)] = None
    precision: Annotated[str | None, _option("Forward passes: full, bf16 or tf32.", _RUN)] = None
    memory_format: Annotated[str | None, _option("Pictures: contiguous or channels_last.", _RUN)] = None
    clock: Annotated[str | None, _option("See `unstale clocks`; gamma if not given.", _TIME)] = None
    clock_option: Annotated[
        list[str] | None, _option("Of the clock: cv=0.1; repeatable.", _TIME, metavar="NAME=VALUE")
    ] = None
    heterogeneity: Annotated[float | None, _option("How unequal machines are: 0.6, with the gamma clock.", _TIME)] = (
        None
    )

    def make_task(self, name: str) -> Task:
        """The task. Raises `ArgumentError` for an unknown one, or for options that it does not have."""
        from unstale import tasks

        return tasks.get(name, **self.task_options())

    def task_options(self) -> dict[str, Any]:
        """Those that were given. Raises `ArgumentError` if they cannot be read."""
        given = {name: value for name, value in {"model": self.model, "root": self.data}.items() if value is not None}
        return {**given, **parse.named("--task-option", self.task_option or ())}

    def request(self, task: str, made: Task, method: str | None = None, **others: Any) -> Request:
        """A run of that task: as given here, the rest from the task's recipe."""
        from unstale.experiments import recipe
        from unstale.experiments.request import Request

        usual = {"workers": 8, "seed": 0, **recipe(made.name, made.model_name)}
        return self.changed(Request(task=task, method="dana_ga", settings=usual), None, method, **others)

    def changed(
        self,
        request: Request,
        task: str | None,
        method: str | None,
        engine: str | None = None,
        live: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> Request:
        """The same with what is given here in its place."""
        clock, options = self._clock(request.clock, request.clock_options)
        given = {name: value for name, value in others.items() if value is not None}
        return dataclasses.replace(
            request,
            task=task or request.task,
            options={**request.options, **self.task_options()},
            method=method or request.method,
            clock=clock,
            clock_options=options,
            settings={**self._over(request.settings), **given},
            engine=engine or request.engine,
            live={**request.live, **(live or {})},
        )

    def plan(self, task: Task) -> dict[str, Any]:
        """The keywords of `unstale.train`: what was given, else the task's recipe."""
        from unstale.experiments import recipe

        return {**self._over(recipe(task.name, task.model_name)), "clock": self.make_clock()}

    def _over(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """``settings`` with those given here in their place."""
        rate = learning_rate(settings["lr"], self.lr, self.warmup, self.decay, self.decay_at, self.decay_factor)
        plan = {**settings, "lr": rate}
        for name in (
            "epochs",
            "batch_size",
            "weight_decay",
            "clip",
            "drop_last",
            "eval_every",
            "batch_norm",
            "on_nonfinite",
            "strategy",
            "executor",
            "precision",
            "memory_format",
        ):
            value = getattr(self, name)
            plan |= {} if value is None else {name: value}
        return plan

    def make_clock(self) -> Clock:
        """The clock. Raises `ArgumentError` for an unknown one, or for options that it does not have."""
        from unstale import clocks

        name, options = self._clock("gamma", {})
        return clocks.get(name, **options)

    def _clock(self, usual: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Its name and options; those of the ``usual`` one stay where no other clock is asked for."""
        given = parse.named("--clock-option", self.clock_option or ())
        name = self.clock or usual
        if self.heterogeneity is not None:
            if name != "gamma":
                raise ArgumentError(
                    f"--heterogeneity belongs to the gamma clock, got --clock {name}; leave one of them out"
                )
            given["heterogeneity"] = self.heterogeneity
        return name, {**(options if name == usual else {}), **given}


def learning_rate(
    recipe: Recipe,
    lr: float | None,
    warmup: float | None,
    decay: str | None,
    decay_at: str | None,
    decay_factor: float | None,
) -> Recipe:
    """A recipe with what was given in it changed."""
    at = None if decay_at is None else parse.numbers("--decay-at", decay_at)
    given = {"lr": lr, "warmup": warmup, "decay": decay, "at": at, "factor": decay_factor}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(recipe, **chosen)


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes ``settings`` an option for each of its fields instead."""
    hints = get_type_hints(command, include_extras=True)
    own = [p.replace(annotation=hints[n]) for n, p in inspect.signature(command).parameters.items() if n != "settings"]
    kinds = get_type_hints(Settings, include_extras=True, localns={"Task": Any, "Clock": Any, "Recipe": Any})
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kinds[field.name]
        )
        for field in dataclasses.fields(Settings)
    ]

    @functools.wraps(command)
    def wrapper(**given: Any) -> None:
        chosen = {parameter.name: given.pop(parameter.name) for parameter in shared}
        command(**given, settings=Settings(**chosen))

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
