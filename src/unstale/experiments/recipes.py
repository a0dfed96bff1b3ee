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

# Transformer-XL's own recipe (Dai et al. 2019): 200,000 steps of 60 columns, which is 17.4 epochs of the 11,520 batches
# that 64 streams make of WikiText-103. The learning rate is for Adam, with gradients clipped at a norm of 0.25.
_PUBLISHED_TEXT = MappingProxyType(
    {"epochs": 200_000 / 11_520, "batch_size": 60, "lr": Recipe(lr=2.5e-4, decay="cosine")}
)
_LITTLE_TEXT = MappingProxyType({"epochs": 1, "batch_size": 16, "lr": Recipe(lr=0.1, warmup=0.03, decay="cosine")})
_TEXTS = ("synthetic_text", "text", "wikitext")

_RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("digits", "mlp"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.03, warmup=0.03)},
    ("digits", "resnet8"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("digits", "resnet20"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("fashion_mnist", "mlp"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.03, warmup=0.03)},
    ("fashion_mnist", "resnet8"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("fashion_mnist", "resnet20"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    **{(task, "transformer_xl"): {**_PUBLISHED_TEXT} for task in _TEXTS},
    **{(task, f"transformer_xl_{size}"): {**_LITTLE_TEXT} for task in _TEXTS for size in ("small", "tiny")},
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
