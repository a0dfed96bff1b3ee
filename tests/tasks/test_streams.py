"""Texts as streams: every place once, columns that go on, and a test over all symbols with memory."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unstale.errors import ArgumentError
from unstale.tasks import StreamTask
from unstale.tasks.models import Shape, TransformerXL, Vocabulary
from unstale.tasks.streams import Segments, unigram_perplexity


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("size", "columns", "target", "streams"), [(61, 2, 4, 3), (40, 1, 5, 1), (100, 5, 10, 2)])
def test_every_place_is_in_one_batch_of_an_epoch(
    size: int, columns: int, target: int, streams: int, drop_last: bool
) -> None:
    cut = Segments(size, columns, target, streams, seed=3, drop_last=drop_last)
    for epoch in range(2):
        batches = [cut.indices(epoch * cut.per_epoch + k) for k in range(cut.per_epoch)]
        places = sorted(place for batch in batches for place in batch.ravel().tolist())
        whole = cut.length - cut.length % target if drop_last else cut.length
        wanted = [c * cut.length + k for c in range(streams * columns) for k in range(whole)]
        assert places == wanted
        if not drop_last:
            assert size - len(places) < streams * columns
    for k in range(cut.per_epoch):
        assert cut.is_full(k) == (cut.indices(k).shape == (columns, target))


def test_a_stream_is_columns_of_consecutive_segments() -> None:
    cut = Segments(70, 2, 4, 3, seed=0)
    assert (cut.length, cut.per_stream, cut.per_epoch) == (11, 3, 9)
    for stream in range(6):
        parts = np.concatenate([cut.indices(stream * 3 + place) for place in range(3)], axis=1)
        assert np.array_equal(parts, parts[:, :1] + np.arange(11))
        assert parts[1, 0] - parts[0, 0] == 11


def test_the_order_of_streams_depends_on_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        cut = Segments(800, 1, 5, 16, seed)
        return [int(cut.indices(epoch * cut.per_epoch + s * cut.per_stream)[0, 0]) // cut.length for s in range(16)]

    assert sorted(order(0, 0)) == list(range(16))
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("wrong", [{"columns": 0}, {"target": 0}, {"streams": 0}, {"streams": 11}, {"target": 51}])
def test_cuts_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ArgumentError):
        Segments(seed=0, **{"size": 100, "columns": 2, "target": 5, "streams": 2, **wrong})  # type: ignore[arg-type]


class Noting(nn.Module):
    """The loss of a target is its own number; memory counts the segments before, and notes how they came."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, symbols: Tensor, targets: Tensor, memory: Tensor | None = None) -> tuple[Tensor, tuple[Tensor]]:
        self.seen.append((symbols, targets, memory))
        assert not self.training or memory is None
        before = torch.zeros(1, len(symbols)) if memory is None else memory
        return targets * self.weight, (torch.maximum(before, symbols[:, -1].float()[None]),)


def tiny(length: int = 200, **options: Any) -> StreamTask:
    build = lambda: TransformerXL(  # noqa: E731
        Vocabulary(7), Shape(layers=2, width=8, heads=2, head_width=4, inner=8, dropout=0.0, memory=4)
    )
    text = torch.randint(7, (length,), generator=torch.Generator().manual_seed(0))
    return StreamTask(build, text, text[:53], **{"target": 4, "streams": 3, **options})


@pytest.mark.parametrize("length", [2, 4, 57, 63])
def test_a_test_takes_every_symbol_once_in_order_with_memory(length: int) -> None:
    text = torch.arange(length)
    model = Noting()
    found = StreamTask(model, text, text, target=3, streams=1).evaluate(model)
    assert found.loss == pytest.approx(length / 2)
    assert found.score == pytest.approx(np.exp(length / 2))
    assert sorted(int(t) for _, targets, _ in model.seen for t in targets.ravel()) == list(range(1, length))
    for symbols, targets, memory in model.seen:
        assert torch.equal(targets, symbols + 1)
        if memory is not None:
            assert torch.equal(memory[0], (symbols[:, 0] - 1).float()), "each goes on where its memory ends"
    assert sum(memory is None for _, _, memory in model.seen) <= 1


def test_perplexity_is_that_of_the_columns_one_by_one() -> None:
    """Ten columns of five symbols, the last of which goes on for two more."""
    task = tiny()
    model = task.build(0).eval()
    total = 0.0
    for column in range(10):
        memory: tuple[Tensor, ...] = ()
        for start, stop in ((0, 4), (4, 5), (5, 7))[: 3 if column == 9 else 2]:
            symbols, targets = task.batch(np.arange(5 * column + start, 5 * column + stop)[None])
            losses, memory = model(symbols, targets, *memory)
            total += float(losses.detach().double().sum())
    assert task.evaluate(model).score == pytest.approx(np.exp(total / 52), rel=1e-6)


def test_a_step_gives_the_loss_and_what_is_left() -> None:
    task = tiny()
    model = task.build(0)
    batch = task.batch(task.batches(2, 0).indices(0))
    loss, memory = task.step(model, batch)
    assert torch.equal(loss, task.loss_of(model, batch))
    assert loss.requires_grad
    assert not memory[0].requires_grad
    again, _ = task.step(model, batch, memory)
    assert not torch.equal(loss, again)


def test_description_pickling_and_data() -> None:
    task = tiny()
    described = task.describe()
    assert (described["streams"], described["target"], described["score_name"]) == (3, 4, "perplexity")
    assert described["higher_is_better"] is False
    assert (task.train_size, task.test_size) == (199, 52)
    symbols, targets = task.batch(np.array([[0, 1], [5, 6]]))
    assert symbols.dtype == targets.dtype == torch.int64
    assert torch.equal(symbols[:, 1], targets[:, 0])
    named = StreamTask(Noting(), torch.arange(30), torch.arange(9), target=2, streams=1)
    assert pickle.loads(pickle.dumps(named)).describe() == named.describe()


@pytest.mark.parametrize("bad", [torch.zeros(9), torch.zeros(3, 3).long(), torch.tensor([1]), [1, 2, 3]])
def test_texts_that_are_none_are_refused(bad: Any) -> None:
    with pytest.raises(ArgumentError, match="train must be a text"):
        StreamTask(Noting(), bad, torch.arange(9))


def test_the_best_constant_answer() -> None:
    assert unigram_perplexity(torch.arange(8)) == pytest.approx(8)
    assert unigram_perplexity(torch.tensor([3, 3, 3])) == pytest.approx(1)
