"""The learning rate as a function of progress.

Progress is measured in epochs: accepted batches over batches per epoch, a float from 0. An epoch is one pass over the
data by all workers together. A schedule is any function from progress to a learning rate; these are the usual ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from unstale.checks import is_finite, number, set_number, whole
from unstale.errors import ArgumentError

__all__ = [
    "Constant",
    "Cosine",
    "Decay",
    "Recipe",
    "Schedule",
    "Steps",
    "Warmup",
    "as_schedule",
    "checked",
    "rate_of_push",
]

Schedule = Callable[[float], float]
"""Progress in epochs -> learning rate."""

Decay = Literal["steps", "cosine", "constant"]


@dataclass(frozen=True)
class Constant:
    """The same learning rate throughout.

    Raises: ArgumentError unless lr is a finite number of at least 0.
    """

    lr: float

    def __post_init__(self) -> None:
        _set_rate(self, "lr")

    def __call__(self, progress: float) -> float:
        """The learning rate."""
        return self.lr


@dataclass(frozen=True)
class Steps:
    """lr, multiplied by ``factor`` at each of the epochs ``at``; a step counts from progress = epoch on.

    Raises: ArgumentError unless lr and factor are at least 0, and the epochs positive and ascending.
    """

    lr: float
    at: tuple[float, ...] = (80.0, 120.0)
    factor: float = 0.1

    def __post_init__(self) -> None:
        _set_rate(self, "lr")
        set_number(self, "factor", lambda x: x >= 0, "be at least 0", "0.1 makes each step a tenth of the one before")
        _set_ascending(
            self, "at", math.inf, "be positive epochs in ascending order", "the usual ones are (80.0, 120.0)"
        )

    def __call__(self, progress: float) -> float:
        """The learning rate at ``progress`` epochs."""
        # Progress is a quotient, and may fall short of a step's epoch by its rounding.
        return self.lr * self.factor ** sum(progress >= epoch - 1e-9 for epoch in self.at)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from lr down to ``floor``, reached at ``epochs`` and kept from there on.

    Raises: ArgumentError unless lr is at least 0, epochs positive, and floor from 0 to lr.
    """

    lr: float
    epochs: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        _set_rate(self, "lr")
        set_number(self, "epochs", lambda x: x > 0, "be positive", "it is the length of the whole training")
        set_number(
            self, "floor", lambda x: 0 <= x <= self.lr, f"be from 0 to lr = {self.lr}", "it is the last learning rate"
        )

    def __call__(self, progress: float) -> float:
        """The learning rate at ``progress`` epochs."""
        share = min(1.0, progress / self.epochs)
        return self.floor + (self.lr - self.floor) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True)
class Warmup:
    """``schedule`` times a factor that rises linearly from ``start`` to 1 in the first ``epochs`` epochs.

    Asynchronous training warms up with start = 1/N and epochs = 5.
    Source: the public code of the authors of Barkai et al. 2020.
    Raises: ArgumentError unless schedule is callable, epochs at least 0, and start from 0 to 1.
    """

    schedule: Schedule
    epochs: float
    start: float

    def __post_init__(self) -> None:
        if not callable(self.schedule):
            raise ArgumentError(f"schedule must be callable, got {self.schedule!r}; for a number take Constant(lr)")
        set_number(self, "epochs", lambda x: x >= 0, "be at least 0", "0 means no warm-up, 5 is usual")
        set_number(self, "start", lambda x: 0 <= x <= 1, "be from 0 to 1", "for N workers take 1/N")

    def __call__(self, progress: float) -> float:
        """The learning rate at ``progress`` epochs."""
        rate = self.schedule(progress)
        if progress >= self.epochs:
            return rate
        return rate * (self.start + (1.0 - self.start) * (progress / self.epochs))


@dataclass(frozen=True)
class Recipe:
    """A schedule in fractions of the whole training, the same for every number of workers: no linear scaling.

    lr: the single worker's learning rate.
    warmup: fraction of the training that warms up, from lr/N; 0 means no warm-up.
    decay: "steps" (times ``factor`` at the fractions ``at``), "cosine" (to 0 at the end) or "constant".
    Raises: ArgumentError unless lr and factor are at least 0, warmup is from 0 to 1, and at ascends within (0, 1].
    """

    lr: float = 0.1
    warmup: float = 0.0
    decay: Decay = "steps"
    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        _set_rate(self, "lr")
        set_number(self, "warmup", lambda x: 0 <= x <= 1, "be from 0 to 1", "it is a fraction of the whole training")
        if self.decay not in get_args(Decay):
            raise ArgumentError(
                f"decay must be one of {', '.join(get_args(Decay))}, got {self.decay!r}; take one of them"
            )
        rule = "be fractions of the training, above 0, up to 1, in ascending order"
        _set_ascending(self, "at", 1.0, rule, "the default is (0.5, 0.75)")
        set_number(self, "factor", lambda x: x >= 0, "be at least 0", "0.1 makes each step a tenth of the one before")

    def build(self, workers: int, epochs: float) -> Schedule:
        """The schedule of a training of ``epochs`` epochs with ``workers`` workers.

        Raises: ArgumentError unless workers is a whole number of at least 1, and epochs positive.
        """
        workers = whole("workers", workers, 1)
        epochs = number("epochs", epochs, lambda x: x > 0, "be positive", "it is the length of the whole training")
        decay = self._decay(epochs)
        return Warmup(decay, epochs=self.warmup * epochs, start=1.0 / workers) if self.warmup else decay

    def _decay(self, epochs: float) -> Schedule:
        if self.decay == "constant":
            return Constant(self.lr)
        if self.decay == "cosine":
            return Cosine(self.lr, epochs)
        return Steps(self.lr, at=tuple(fraction * epochs for fraction in self.at), factor=self.factor)


def as_schedule(lr: float | Recipe | Schedule, workers: int, epochs: float) -> Schedule:
    """A schedule from a number (constant), a recipe, or a function of progress, which is returned as it is.

    Raises: ArgumentError for a number that is negative or not finite, and for anything else.
    """
    if isinstance(lr, Recipe):
        return lr.build(workers, epochs)
    if callable(lr):
        return lr
    return Constant(lr)


def checked(lr: object, progress: float) -> float:
    """What a schedule answered, as a plain float.

    Raises: ArgumentError, naming progress and answer, unless it is a finite number of at least 0.
    """
    if not is_finite(lr) or lr < 0:
        raise ArgumentError(
            f"lr must be a finite number of at least 0, got {lr!r} at progress {progress:g} epochs; mend the schedule"
        )
    return float(lr)


def rate_of_push(own: float | None, usual: float | Schedule | None, progress: float) -> float:
    """η of one push: its own, or else the usual one at this progress.

    Raises: ArgumentError where there is neither, or where it is not a finite number of at least 0.
    """
    rate = usual if own is None else own
    if rate is None:
        raise ArgumentError("lr must be given to push(), or once to Server(lr=…), got none")
    return checked(rate(progress) if callable(rate) else rate, progress)


def _set_rate(record: object, name: str) -> None:
    set_number(
        record, name, lambda x: x >= 0, "be a finite number of at least 0", "pass a number such as 0.1, or a schedule"
    )


def _set_ascending(record: object, name: str, most: float, rule: str, remedy: str) -> None:
    values = getattr(record, name)
    if not isinstance(values, tuple | list):
        raise ArgumentError(f"{name} must {rule}, got {values!r}; {remedy}")
    plain = tuple(number(name, value, lambda x: 0 < x <= most, rule, remedy) for value in values)
    if any(after <= before for before, after in itertools.pairwise(plain)):
        raise ArgumentError(f"{name} must {rule}, got {values!r}; {remedy}")
    object.__setattr__(record, name, plain)
