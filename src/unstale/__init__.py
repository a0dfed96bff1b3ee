"""Train neural networks asynchronously without losing accuracy.

Names are loaded when they are first used: ``import unstale`` alone costs next to nothing, and then needs torch and
numpy only.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unstale import clocks, errors, experiments, methods, schedules, tasks, testing
    from unstale.callbacks import Callback, StopRun
    from unstale.checkpoint import Checkpoints
    from unstale.engines import LiveRun, launch, train
    from unstale.engines.live import Patience
    from unstale.engines.live.scripts.client import Worker, connect
    from unstale.engines.live.scripts.served import Served, serve
    from unstale.errors import Interrupted, UnstaleError
    from unstale.experiments import compare, tune
    from unstale.experiments.replays import replay
    from unstale.flat import Group
    from unstale.measure import Receipt
    from unstale.methods import Method
    from unstale.record import Run
    from unstale.schedules import Recipe
    from unstale.server import Server
    from unstale.tasks import Task
    from unstale.tensorboard import TensorBoard
    from unstale.tickets import Ticket

__version__ = "0.1.0"

_HOMES = {
    "Callback": "unstale.callbacks",
    "Checkpoints": "unstale.checkpoint",
    "Group": "unstale.flat",
    "Interrupted": "unstale.errors",
    "LiveRun": "unstale.engines",
    "Method": "unstale.methods",
    "Patience": "unstale.engines.live",
    "Receipt": "unstale.measure",
    "Recipe": "unstale.schedules",
    "Run": "unstale.record",
    "Served": "unstale.engines.live.scripts.served",
    "Server": "unstale.server",
    "StopRun": "unstale.callbacks",
    "Task": "unstale.tasks",
    "TensorBoard": "unstale.tensorboard",
    "Ticket": "unstale.tickets",
    "UnstaleError": "unstale.errors",
    "Worker": "unstale.engines.live.scripts.client",
    "compare": "unstale.experiments",
    "connect": "unstale.engines.live.scripts.client",
    "launch": "unstale.engines",
    "replay": "unstale.experiments.replays",
    "serve": "unstale.engines.live.scripts.served",
    "train": "unstale.engines",
    "tune": "unstale.experiments",
}
_ROOMS = ("clocks", "errors", "experiments", "methods", "schedules", "tasks", "testing")

__all__ = [
    "Callback",
    "Checkpoints",
    "Group",
    "Interrupted",
    "LiveRun",
    "Method",
    "Patience",
    "Receipt",
    "Recipe",
    "Run",
    "Served",
    "Server",
    "StopRun",
    "Task",
    "TensorBoard",
    "Ticket",
    "UnstaleError",
    "Worker",
    "clocks",
    "compare",
    "connect",
    "errors",
    "experiments",
    "launch",
    "methods",
    "replay",
    "schedules",
    "serve",
    "tasks",
    "testing",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"unstale.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'unstale' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
