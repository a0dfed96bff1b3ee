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


def _published(epochs: int, at: tuple[int, ...], factor: float, **settings: Any) -> dict[str, Any]:
    """A baseline's settings for every number of workers, with the authors' warm-up of 5 epochs [A].

    Evidence: [A] read in the authors' public code; [M] usual in the literature, and not verified to be the authors'.
    """
    fractions = tuple(epoch / epochs for epoch in at)
    return {"epochs": epochs, "lr": Recipe(0.1, warmup=5 / epochs, at=fractions, factor=factor), **settings}


# Batch 128, η 0.1, x0.1 at 80 and 120 of 160 epochs: [A]. λ 5e-4: [M]; the code of DANA has 1e-4 [A].
_RESNET20 = _published(160, (80, 120), 0.1, batch_size=128, weight_decay=5e-4)
# All of it: [M].
_WIDE = _published(200, (60, 120, 160), 0.2, batch_size=128, weight_decay=5e-4)
# All of it: [M].
_RESNET50 = _published(90, (30, 60), 0.1, batch_size=256, weight_decay=1e-4)
# Transformer-XL's own recipe (Dai et al. 2019): 200,000 steps of 60 columns, which is 17.4 epochs of the 11,520 batches
# that 64 streams make of WikiText-103. The learning rate is for Adam, with gradients clipped at a norm of 0.25.
_PUBLISHED_TEXT = MappingProxyType(
    {"epochs": 200_000 / 11_520, "batch_size": 60, "lr": Recipe(lr=2.5e-4, decay="cosine")}
)
_LITTLE_TEXT = MappingProxyType({"epochs": 1, "batch_size": 16, "lr": Recipe(lr=0.1, warmup=0.03, decay="cosine")})
_TEXTS = ("synthetic_text", "text", "wikitext")

_RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("digits", "mlp"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.03, warmup=0.03)},
    ("digits", "resnet"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("digits", "wrn"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("fashion_mnist", "mlp"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.03, warmup=0.03)},
    ("fashion_mnist", "resnet"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("fashion_mnist", "wrn"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.1, warmup=0.03)},
    ("cifar10", "mlp"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.03, warmup=0.03)},
    ("cifar10", "resnet"): _RESNET20,
    ("cifar10", "wrn"): _WIDE,
    ("cifar100", "mlp"): {**_MANY_EXAMPLES, "lr": Recipe(lr=0.03, warmup=0.03)},
    ("cifar100", "resnet"): _RESNET20,
    ("cifar100", "wrn"): _WIDE,
    ("imagenet", ""): _RESNET50,
    ("synthetic_images", ""): {"epochs": 1, "lr": Recipe(0.1), "batch_size": 256, "weight_decay": 1e-4},
    **{(task, "transformer_xl"): {**_PUBLISHED_TEXT} for task in _TEXTS},
    **{(task, f"transformer_xl_{size}"): {**_LITTLE_TEXT} for task in _TEXTS for size in ("small", "tiny")},
    ("quadratic", "point"): {**_FEW_EXAMPLES, "lr": Recipe(lr=0.1)},
}
"""By task and family of models: "resnet" is for "resnet8" too, "" for all that have none of their own."""


def recipe(task: str, model: str) -> dict[str, Any]:
    """Settings that suit a built-in task and model, as keywords of `unstale.train` and `unstale.compare`.

    The command line starts from them; the Python functions only if you pass them: ``compare(task, **recipe(…))``.
    Those of CIFAR and ImageNet are the ones that the paper's workloads are known or thought to have; which is which is
    said beside them. Empty for a task that is not built in.
    """
    family = model.rstrip("0123456789_")
    return dict(_RECIPES.get((task, family)) or _RECIPES.get((task, ""), {}))


def recipes_of(task: str) -> dict[str, dict[str, Any]]:
    """A built-in task's recipes by family of models."""
    return {model or "all": dict(settings) for (name, model), settings in _RECIPES.items() if name == task}
