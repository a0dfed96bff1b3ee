from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from unstale.errors import ArgumentError
from unstale.tasks import Task

INPUTS = torch.arange(14.0).reshape(7, 2)
TARGETS = torch.tensor([0, 1, 0, 1, 1, 0, 1])
DATA = INPUTS, TARGETS


class Pairs(Dataset[tuple[Any, Tensor]]):
    """INPUTS and TARGETS item by item, each input shaped by ``shape``."""

    def __init__(self, shape: Callable[[Tensor], Any] = torch.clone, size: int = 7) -> None:
        self.shape, self.size = shape, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Any, Tensor]:
        return self.shape(INPUTS[index]), TARGETS[index]


class Stream(IterableDataset[Tensor]):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(INPUTS)


class Two(nn.Module):
    """A linear model of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = self.linear(torch.stack([a, b], dim=1))
        return out


def linear() -> nn.Module:
    return nn.Linear(2, 2)


def task(model: Any = linear, loss: Any = cross_entropy, train: Any = DATA, test: Any = DATA, **options: Any) -> Task:
    return Task(model, loss, train, test, **options)


@pytest.mark.parametrize(
    "data",
    [DATA, list(DATA), TensorDataset(*DATA), Pairs(), list(zip(*DATA, strict=True))],
    ids=lambda d: type(d).__name__,
)
def test_every_kind_of_data_gives_the_same_batches(data: Any) -> None:
    mine = task(train=data, test=data)
    inputs, target = mine.batch(np.array([6, 0, 6]), torch.device("cpu"))
    assert torch.equal(inputs, INPUTS[[6, 0, 6]])
    assert torch.equal(target, TARGETS[[6, 0, 6]])
    assert (mine.train_size, mine.test_size) == (7, 7)
    reference = task()
    assert mine.evaluate(mine.build(0)) == reference.evaluate(reference.build(0))


def test_read_only_indices_do_not_warn() -> None:
    indices = np.array([1, 2])
    indices.flags.writeable = False
    assert task().batch(indices)[1].tolist() == [1, 0]


def test_several_items_at_once_where_the_dataset_can() -> None:
    class Fast(Pairs):
        def __getitems__(self, indices: list[int]) -> list[tuple[Any, Tensor]]:
            return [self[index] for index in reversed(indices)]

    assert task(train=Fast()).batch(np.array([1, 2]))[0].tolist() == INPUTS[[2, 1]].tolist()


def test_collate_fn_is_used_even_for_tensors() -> None:
    def doubled(items: list[Any]) -> tuple[Tensor, Tensor]:
        return 2 * torch.stack([x for x, _ in items]), torch.stack([y for _, y in items])

    for data in (DATA, TensorDataset(*DATA), Pairs()):
        assert torch.equal(task(train=data, test=data, collate_fn=doubled).batch(np.array([1]))[0], 2 * INPUTS[[1]])


Named = namedtuple("Named", ["a", "b"])


@pytest.mark.parametrize(
    "shape",
    [lambda x: (x[0], x[1]), lambda x: [x[0], x[1]], lambda x: {"b": x[1], "a": x[0]}, lambda x: Named(x[0], x[1])],
    ids=["tuple", "list", "dict", "namedtuple"],
)
def test_models_of_several_inputs(shape: Callable[[Tensor], Any]) -> None:
    mine, plain = task(Two, train=Pairs(shape), test=Pairs(shape)), task()
    model = mine.build(0)
    batch = mine.batch(np.arange(7))
    assert mine.loss_of(model, batch) == plain.loss_of(plain.build(0), plain.batch(np.arange(7)))
    assert mine.evaluate(model) == plain.evaluate(plain.build(0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(), "train must be data that can be read by index.*IterableDataset Stream: read it into a list"),
        (INPUTS, "train must be data that can be read by index.*got Tensor: pass"),
        ({"x": INPUTS, "y": TARGETS}, "got dict: pass"),
        ((INPUTS.numpy(), TARGETS.numpy()), "got tuple: pass"),
        (None, "got NoneType: pass"),
        ((), "got tuple: pass"),
        (iter([]), "got list_iterator: pass"),
        ([], "train must hold at least one example, got none"),
        (Pairs(size=0), "train must hold at least one example, got none"),
        ((INPUTS[:0], TARGETS[:0]), "train must hold at least one example, got none"),
        ((INPUTS, TARGETS[:3]), r"train must be two tensors of equal length.*got lengths \[7, 3\]"),
        ((INPUTS, TARGETS, TARGETS), r"train must be two tensors of equal length.*pass a Dataset of"),
        ((INPUTS, torch.tensor(0)), r"got lengths \[7, None\]"),
        (TensorDataset(INPUTS), r"got lengths \[7\]"),
    ],
)
def test_refuses_data_that_cannot_work(data: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        task(train=data)


def test_refuses_items_that_are_not_pairs() -> None:
    with pytest.raises(ArgumentError, match=r"must give a pair \(inputs, target\), got 3 parts"):
        task(train=[(1.0, 2.0, 3)]).batch(np.array([0]))
    with pytest.raises(ArgumentError, match="got Tensor"):
        task(train=[1.0]).batch(np.array([0]))
