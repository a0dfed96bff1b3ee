"""A task: a model, its data, its loss and its score; all that an engine needs to know about the work."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unstale import checks
from unstale.checks import whole
from unstale.describe import Plain
from unstale.errors import ArgumentError
from unstale.nested import moved
from unstale.tasks.batches import Batches, Numbered, TensorExamples, examples, fingerprint
from unstale.tasks.building import ready, snapshot
from unstale.tasks.calling import evaluating, forward, scalar
from unstale.tasks.describing import described, name_of, weights
from unstale.tasks.inputs import Augment, Identity, Prepare, generator
from unstale.tasks.micro import in_chunks

__all__ = ["Batch", "Evaluation", "Task"]

Batch = tuple[Any, Any]
"""(inputs, target) as the model and the loss take them."""


class Evaluation(NamedTuple):
    """Means over the examples of the test set."""

    loss: float
    score: float


class Task:
    """A model, its data, its loss and its score.

    ``model``: a module (copied when the task is made; every seed starts from its weights, and it is never modified), or
    a function of no arguments that makes one on the CPU; it is called once per seed, under torch's CPU random numbers.
    ``loss(output, target)``: 0-d tensor, the mean over the batch.
    ``train``, ``test``: two tensors (inputs (n, …), targets (n, …)), a TensorDataset, or any dataset with ``__len__``
    and ``__getitem__``, whose items go through ``collate_fn`` (torch's ``default_collate`` if None) and give
    (inputs, target). Inputs that are a tuple or list reach the model as ``model(*inputs)``, a dict as ``**inputs``.
    ``score(output, target)``: float or 0-d tensor, the mean over the batch; None: the score is the test loss, and lower
    is better.
    ``chance``: the score of the best constant answer, by which a diverged run is told; None if unknown.
    ``prepare(inputs)``: what the model takes, from inputs as they are stored; on the batch's device, for every batch.
    ``augment(inputs, generator)``: changed inputs, before they are prepared; on the batch's device, for training
    batches. What is random in it comes from ``generator``, numpy's, seeded from the run's seed and the batch's number.
    ``eval_batch_size``: how many test examples at a time. ``micro_batch``: how many of a batch's examples at a time,
    with one gradient for all of them, where a batch does not fit into memory; BatchNorm then sees so many.
    A task can be pickled if its pieces can.

    Raises: ArgumentError for pieces that cannot work, each with its remedy.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        loss: Callable[[Any, Any], Tensor],
        train: object,
        test: object,
        score: Callable[[Any, Any], float | Tensor] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        *,
        name: str = "custom",
        model_name: str | None = None,
        chance: float | None = None,
        higher_is_better: bool = True,
        score_name: str = "score",
        prepare: Prepare | None = None,
        augment: Augment | None = None,
        eval_batch_size: int = 1024,
        micro_batch: int | None = None,
    ) -> None:
        _check_callable("model", model, "a torch module, or a function of no arguments that makes one")
        _check_callable("loss", loss, "a function (output, target) -> scalar tensor, such as F.cross_entropy")
        optional = {"score": score, "collate_fn": collate_fn, "prepare": prepare, "augment": augment}
        for label, function in optional.items():
            if function is not None:
                _check_callable(label, function, "a function, or None")
        if getattr(loss, "reduction", "mean") == "sum":
            raise ArgumentError("loss must be the mean over the batch, got reduction='sum'; use reduction='mean'")
        self._model = snapshot(model) if isinstance(model, nn.Module) else model
        self._train = examples("train", train, collate_fn)
        self._test = examples("test", test, collate_fn)
        self.loss, self.score = loss, score
        self.prepare, self.augment = prepare, augment
        self.eval_batch_size = whole("eval_batch_size", eval_batch_size, 1)
        self.micro_batch = None if micro_batch is None else whole("micro_batch", micro_batch, 1)
        self.name, self.model_name = name, model_name or name_of(model)
        self.chance = None if chance is None else float(chance)
        self.higher_is_better = higher_is_better and score is not None
        self.score_name = "loss" if score is None else score_name

    streams: int | None = None
    """Into how many streams an epoch's batches are cut (`unstale.tasks.StreamTask`); None: they make none."""

    @property
    def train_size(self) -> int:
        """Training examples."""
        return len(self._train)

    @property
    def test_size(self) -> int:
        """Test examples."""
        return len(self._test)

    def build(self, seed: int) -> nn.Module:
        """A fresh model, on the device where its pieces are; the same one for the same seed.

        Global random numbers are left as they were.

        Raises: ArgumentError if the factory gives no module, or one whose shapes are not known yet.
        """
        seed = checks.seed(seed)
        if isinstance(self._model, nn.Module):
            return copy.deepcopy(self._model)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed accelerators too, and leave it so
            return ready(self._model())

    def batches(self, batch_size: int, seed: int, drop_last: bool = False) -> Numbered:
        """Which examples make batch number k."""
        return Batches(self.train_size, batch_size, seed, drop_last)

    def batch(
        self, indices: NDArray[np.int64], device: torch.device | str = "cpu", identity: Identity | None = None
    ) -> Batch:
        """The training examples ``indices``, (B,) int64, as (inputs, target) on ``device``.

        ``identity``, (seed, batch number), gives the batch its random numbers; without it, nothing is augmented.
        """
        inputs, target = moved(self._train.take(indices), device)
        if self.augment is not None and identity is not None:
            inputs = self.augment(inputs, generator(identity))
        return self._prepared(inputs), target

    @property
    def in_tensors(self) -> bool:
        """Whether the training data are tensors, and no batch of them takes random numbers: see `together`."""
        return isinstance(self._train, TensorExamples) and self.augment is None

    def together(self, indices: NDArray[np.int64], device: torch.device | str = "cpu") -> Batch:
        """Several batches of one size at once: for ``indices`` (L, B), inputs and target of shape (L, B, …).

        For data in tensors only.
        """
        inputs, target = self.batch(indices.reshape(-1), device)
        return inputs.unflatten(0, indices.shape), target.unflatten(0, indices.shape)

    def loss_of(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """The mean loss of ``model`` on a batch: 0-d tensor.

        Raises: ArgumentError if the task's loss gives anything else.
        """
        if self.micro_batch is not None:
            return in_chunks(partial(self._loss_of, model), model, batch, self.micro_batch)
        return self._loss_of(model, batch)

    def step(
        self, model: Callable[..., Any], batch: Batch, memory: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mean loss, and what the batch leaves to the next one of its stream: nothing, where there are none."""
        return self.loss_of(model, batch), ()

    def evaluate(
        self, model: nn.Module, device: torch.device | str = "cpu", batch_size: int | None = None
    ) -> Evaluation:
        """Loss and score over the test set, each example counting the same; ``batch_size`` at a time.

        The model, which must be on ``device``, is in evaluation mode meanwhile; afterwards each of its parts is in its
        previous mode again.
        """
        batch_size = self.eval_batch_size if batch_size is None else whole("batch_size", batch_size, 1)
        losses = scores = 0.0
        with evaluating(model):
            for start in range(0, self.test_size, batch_size):
                indices = np.arange(start, min(start + batch_size, self.test_size), dtype=np.int64)
                inputs, target = moved(self._test.take(indices), device)
                output = forward(model, self._prepared(inputs))
                loss = self._loss(output, target)
                score = loss if self.score is None else scalar("score", self.score(output, target))
                losses += len(indices) * float(loss)
                scores += len(indices) * float(score)
        return Evaluation(losses / self.test_size, scores / self.test_size)

    def describe(self) -> dict[str, Plain]:
        """What this task is, as JSON values; tensor data and given weights by fingerprint, None for others."""
        # Named only where there is one: runs without them are the same runs as before there were any.
        changes = {"prepare": self.prepare, "augment": self.augment, "micro_batch": self.micro_batch}
        return {
            "name": self.name,
            "model_name": self.model_name,
            "model": described(self._model),
            "weights": fingerprint(weights(self._model)) if isinstance(self._model, nn.Module) else None,
            "loss": described(self.loss),
            "score_name": self.score_name,
            "higher_is_better": self.higher_is_better,
            "chance": self.chance,
            "train_size": self.train_size,
            "test_size": self.test_size,
            "train": self._train.fingerprint,
            "test": self._test.fingerprint,
            **{name: described(change) for name, change in changes.items() if change is not None},
        }

    def _prepared(self, inputs: Any) -> Any:
        return inputs if self.prepare is None else self.prepare(inputs)

    def _loss_of(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        inputs, target = batch
        return self._loss(forward(model, inputs), target)

    def _loss(self, output: object, target: object) -> Tensor:
        loss = scalar("loss", self.loss(output, target))
        if not isinstance(loss, Tensor):
            raise ArgumentError(
                f"loss must give a tensor to differentiate, got {type(loss).__name__}; drop the .item()"
            )
        return loss


def _check_callable(name: str, value: object, rule: str) -> None:
    if not callable(value):
        raise ArgumentError(f"{name} must be {rule}, got {type(value).__name__}")
