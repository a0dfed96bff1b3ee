"""Tasks: a model, its data, its loss, its score. Your own is ``Task(...)``; ``names()`` lists those built in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from unstale.errors import ArgumentError, UnknownNameError
from unstale.tasks import models
from unstale.tasks.base import Batch, Evaluation, Task
from unstale.tasks.batches import Batches
from unstale.tasks.cifar import cifar10, cifar100
from unstale.tasks.digits import digits
from unstale.tasks.imagenet import imagenet
from unstale.tasks.images import fashion_mnist, read_idx
from unstale.tasks.quadratic import Quadratic, quadratic
from unstale.tasks.scores import accuracy
from unstale.tasks.streams import StreamTask
from unstale.tasks.synthetic import synthetic_images
from unstale.tasks.text import synthetic_text, text, wikitext

__all__ = [
    "Batch",
    "Batches",
    "Entry",
    "Evaluation",
    "Quadratic",
    "StreamTask",
    "Task",
    "accuracy",
    "catalogue",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "get",
    "imagenet",
    "models",
    "names",
    "quadratic",
    "read_idx",
    "synthetic_images",
    "synthetic_text",
    "text",
    "wikitext",
]


class Entry(NamedTuple):
    """A line of the catalogue: what the task is, and where its data come from."""

    summary: str
    source: str


_KRIZHEVSKY = "Krizhevsky 2009"
_TASKS: dict[str, tuple[Callable[..., Task], Entry]] = {
    "cifar10": (cifar10, Entry("60,000 colour pictures, 32x32, 10 classes; you bring them", _KRIZHEVSKY)),
    "cifar100": (cifar100, Entry("60,000 colour pictures, 32x32, 100 classes; you bring them", _KRIZHEVSKY)),
    "digits": (digits, Entry("1,797 handwritten digits of 8x8 pixels; trains in seconds", "UCI, in scikit-learn")),
    "fashion_mnist": (fashion_mnist, Entry("70,000 pictures of clothes, 28x28 pixels, 10 classes", "arXiv 1708.07747")),
    "imagenet": (
        imagenet,
        Entry("1.3 million photographs, 1,000 classes; you bring them", "Russakovsky et al. 2015"),
    ),
    "quadratic": (quadratic, Entry("least squares with a known optimum, to check theory on", "drawn from a seed")),
    "synthetic_images": (
        synthetic_images,
        Entry("noise in the shape of ImageNet, for models of full size", "drawn from a seed"),
    ),
    "synthetic_text": (
        synthetic_text,
        Entry("words from a seed, to try out models of full size", "Zipf's law"),
    ),
    "text": (text, Entry("any text file, by byte or word; Python's reference if none", "your file, or pydoc_data")),
    "wikitext": (wikitext, Entry("WikiText-103 or -2 by word, the paper's language task", "arXiv 1609.07843")),
}


def names() -> list[str]:
    """The built-in tasks, sorted."""
    return sorted(_TASKS)


def catalogue() -> dict[str, Entry]:
    """Every built-in task by name: its summary, of at most 70 characters, and its source."""
    return {name: _TASKS[name][1] for name in names()}


def get(name: str, **options: Any) -> Task:
    """The built-in task of this name; ``options`` are its function's arguments.

    Raises: UnknownNameError for another name; ArgumentError for options that it does not have.
    """
    if name not in _TASKS:
        raise UnknownNameError("task", name, _TASKS)
    make = _TASKS[name][0]
    allowed = list(inspect.signature(make).parameters)
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise ArgumentError(f"options of task {name!r} must be among {', '.join(allowed)}; got {', '.join(unknown)}")
    return make(**options)
