"""What a comparison takes when nothing else is said: the methods, and settings that suit each task and model."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from unstale.schedules import Recipe

__all__ = ["PAPER", "SEEDS", "WORKERS", "recipe", "recipes_of"]

PAPER = ("asgd", "nag_asgd", "sa", "ga", "dana", "dana_sa", "dana_ga")
"""The seven methods of Barkai et al. 2020, in the order of their tables."""

WORKERS, SEEDS = (4, 16, 32), 2
"""What the command line takes: on digits, enough to see the paper's story after about a minute on two cores."""

_FEW_EXAMPLES = MappingProxyType({"epochs": 30, "batch_size": 32, "drop_last": True})
_MANY_EXAMPLES = MappingProxyType({"epochs": 10, "batch_size": 128, "drop_last": True})

_RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("digits", "mlp"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.03, warmup=0.03)},
    ("digits", "resnet8"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("digits", "resnet20"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("fashion_mnist", "mlp"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.03, warmup=0.03)},
    ("fashion_mnist", "resnet8"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("fashion_mnist", "resnet20"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("quadratic", "point"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.1)},
}


def recipe(task: str, model: str) -> dict[str, Any]:
    """Settings that suit a built-in task and model, as keywords of `unstale.train` and `unstale.compare`.

    The command line starts from them; the Python functions only if you pass them: ``compare(task, **recipe(…))``.
    Empty for a task that is not built in.
    """
    return dict(_RECIPES.get((task, model), {}))


def recipes_of(task: str) -> dict[str, dict[str, Any]]:
    """A built-in task's recipes by model."""
    return {model: dict(settings) for (name, model), settings in _RECIPES.items() if name == task}
