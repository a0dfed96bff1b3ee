"""Text as streams: columns of consecutive segments, and a task whose model remembers from one to the next."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unstale.checks import whole
from unstale.describe import Plain
from unstale.errors import ArgumentError
from unstale.nested import moved
from unstale.tasks.base import Batch, Evaluation, Task
from unstale.tasks.batches import permutation
from unstale.tasks.calling import evaluating
from unstale.tasks.inputs import Identity

__all__ = ["Segments", "StreamTask"]

TEST_COLUMNS = 10  # as in the evaluation of Transformer-XL


@dataclass(frozen=True)
class Segments:
    """Batch number k of a text of ``size`` predictions, as places in it.

    The text is cut into ``streams``·``columns`` contiguous columns of equal length; ``columns`` neighbours make a
    stream, and its batches are the columns' consecutive segments of ``target`` predictions, of which the last may be
    shorter, or is left out (``drop_last``). So every prediction is in one batch of an epoch, except fewer than
    ``streams``·``columns`` at the text's end. Streams come in an order that depends on (seed, epoch) alone.

    Why streams that are cut once, and a queue of them, rather than one part of the text for each worker: the batches
    are then the same for every number of workers, and a fast worker takes more streams instead of waiting, at the end
    of its part, for the slowest to finish its own. The price is a memory that starts empty once for each stream and
    epoch. One stream and one worker is the published training of one machine.

    Raises: ArgumentError for numbers below 1, or more columns than the text can fill with one segment each.
    """

    size: int
    columns: int
    target: int
    streams: int
    seed: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.columns), ("target", self.target), ("streams", self.streams)):
            whole(name, value, 1)
        if self.length < self.target:
            raise ArgumentError(
                f"the training text must fill streams · batch_size · target = {self.streams} · {self.columns} · "
                f"{self.target} places, got {self.size:,}; make one of them smaller"
            )

    @property
    def length(self) -> int:
        """Predictions in a column."""
        return self.size // (self.streams * self.columns)

    @property
    def per_stream(self) -> int:
        """Batches in a stream."""
        full, rest = divmod(self.length, self.target)
        return full + (rest > 0 and not self.drop_last)

    @property
    def per_epoch(self) -> int:
        """Batches in one pass over the text."""
        return self.streams * self.per_stream

    def is_full(self, batch: int) -> bool:
        """Whether batch number ``batch`` has ``target`` predictions a column: all have, but a stream's last."""
        return (batch % self.per_stream + 1) * self.target <= self.length

    def indices(self, batch: int) -> NDArray[np.int64]:
        """The places of batch number ``batch``: (columns, t) int64."""
        epoch, rest = divmod(whole("batch", batch, 0), self.per_epoch)
        turn, place = divmod(rest, self.per_stream)
        stream = int(permutation(self.streams, self.seed, epoch)[turn])
        start = place * self.target
        within = np.arange(start, min(start + self.target, self.length), dtype=np.int64)
        return (stream * self.columns + np.arange(self.columns, dtype=np.int64))[:, None] * self.length + within


class StreamTask(Task):
    """Predict every symbol of a text from those before it; score: perplexity on the test text, lower is better.

    ``model(symbols, targets, *memory)``, both (B, t) int64, gives (losses, memory): the negative log-likelihood of each
    target in nats, and a tuple of tensors (…, B, …) with the columns second, for the stream's next segment.
    ``train``, ``test``: (T,) whole numbers. ``target``: predictions in a segment. ``streams``: see `Segments`; there
    must be at least as many as workers. ``batch_size`` is the number of columns.

    A test is over all symbols but the first, in order and with memory, in 10 columns; what these leave over at the
    text's end follows the last of them. Mean loss and its exponential are reported.

    Raises: ArgumentError for texts of fewer than 2 symbols, and for numbers below 1.
    Source of the evaluation: Dai et al. 2019, the authors' code.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module],
        train: Tensor,
        test: Tensor,
        *,
        target: int = 32,
        streams: int = 64,
        name: str = "custom",
        model_name: str | None = None,
        chance: float | None = None,
    ) -> None:
        for label, text in (("train", train), ("test", test)):
            if not isinstance(text, Tensor) or text.ndim != 1 or len(text) < 2 or text.is_floating_point():
                got = f"{text.dtype}, shape {tuple(text.shape)}" if isinstance(text, Tensor) else type(text).__name__
                raise ArgumentError(f"{label} must be a text of at least 2 symbols, (T,) whole numbers, got {got}")
        super().__init__(
            model,
            mean_loss,
            (train[:-1], train[1:]),
            (test[:-1], test[1:]),
            perplexity,
            name=name,
            model_name=model_name,
            chance=chance,
            higher_is_better=False,
            score_name="perplexity",
        )
        self.target, self.streams = whole("target", target, 1), whole("streams", streams, 1)

    def batches(self, batch_size: int, seed: int, drop_last: bool = False) -> Segments:
        """Which places make batch number k."""
        assert self.streams is not None
        return Segments(self.train_size, batch_size, self.target, self.streams, seed, drop_last)

    def batch(
        self, indices: NDArray[np.int64], device: torch.device | str = "cpu", identity: Identity | None = None
    ) -> Batch:
        """The symbols at the places ``indices``, (B, t) int64, and those that follow them, both (B, t) int64."""
        pair = self._train.take(indices.reshape(-1))
        symbols, targets = (part.long().view(indices.shape) for part in pair)
        return moved(symbols, device), moved(targets, device)

    def loss_of(self, model: Callable[..., Any], batch: Batch) -> Tensor:
        """The mean loss of a segment without memory: 0-d tensor."""
        return self.step(model, batch)[0]

    def step(
        self, model: Callable[..., Any], batch: Batch, memory: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The mean loss of a segment after ``memory``, and what it leaves to the next one."""
        losses, left = model(*batch, *memory)
        return self._loss(losses, batch[1]), tuple(part.detach() for part in left)

    def evaluate(
        self, model: nn.Module, device: torch.device | str = "cpu", batch_size: int | None = None
    ) -> Evaluation:
        """Mean loss and perplexity over the test text; see the class. ``batch_size`` plays no part."""
        columns = min(TEST_COLUMNS, max(1, self.test_size // self.target))
        length = self.test_size // columns
        places = np.arange(columns, dtype=np.int64)[:, None] * length + np.arange(length, dtype=np.int64)
        rest = np.arange(columns * length, self.test_size, dtype=np.int64)[None]
        with evaluating(model):
            total, memory = self._through(model, places, (), device)
            total += self._through(model, rest, tuple(part[:, -1:] for part in memory), device)[0]
        loss = total / self.test_size
        return Evaluation(loss, float(perplexity(torch.tensor(loss, dtype=torch.float64), None)))

    def _through(
        self, model: nn.Module, places: NDArray[np.int64], memory: tuple[Tensor, ...], device: torch.device | str
    ) -> tuple[float, tuple[Tensor, ...]]:
        """Segment by segment over columns of places, (B, n): the sum of losses, and the memory at the end."""
        total = 0.0
        for start in range(0, places.shape[1], self.target):
            part = places[:, start : start + self.target]
            symbols, targets = moved(self._test.take(part.reshape(-1)), device)
            losses, memory = model(symbols.long().view(part.shape), targets.long().view(part.shape), *memory)
            total += float(losses.double().sum())
        return total, memory

    def describe(self) -> dict[str, Plain]:
        """See `Task.describe`; and how the text is cut."""
        return {**super().describe(), "target": self.target, "streams": self.streams}


def mean_loss(losses: Tensor, targets: Tensor) -> Tensor:
    """The mean of the negative log-likelihoods: 0-d tensor."""
    return losses.mean()


def perplexity(losses: Tensor, targets: object) -> Tensor:
    """exp of the mean negative log-likelihood, Inf where that is too large: 0-d tensor."""
    return losses.double().mean().exp()


def unigram_perplexity(symbols: Tensor) -> float:
    """The perplexity of always answering with the text's own frequencies: exp of their entropy."""
    counts = symbols.long().bincount().double()
    shares = counts[counts > 0] / len(symbols)
    return math.exp(float(-(shares * shares.log()).sum()))
