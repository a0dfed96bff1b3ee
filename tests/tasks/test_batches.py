from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstale.errors import ArgumentError
from unstale.tasks import Batches, batches


@st.composite
def _batches(draw: st.DrawFn) -> Batches:
    size = draw(st.integers(1, 60))
    return Batches(size, draw(st.integers(1, size)), draw(st.integers(0, 2**40)), draw(st.booleans()))


@settings(deadline=None)
@given(_batches(), st.integers(0, 5))
def test_every_example_comes_once_an_epoch(plan: Batches, epoch: int) -> None:
    first = epoch * plan.per_epoch
    drawn = np.concatenate([plan.indices(first + k) for k in range(plan.per_epoch)])
    assert drawn.dtype == np.int64
    assert len(set(drawn.tolist())) == len(drawn)
    kept = plan.size // plan.batch_size * plan.batch_size if plan.drop_last else plan.size
    assert len(drawn) == kept
    assert set(drawn.tolist()) <= set(range(plan.size))


@settings(deadline=None)
@given(_batches(), st.permutations(range(40)))
def test_the_order_of_asking_does_not_matter(plan: Batches, order: list[int]) -> None:
    in_order = {k: plan.indices(k).tolist() for k in range(40)}
    assert {k: plan.indices(k).tolist() for k in order} == in_order


@given(_batches(), st.integers(0, 1000))
def test_batch_numbers_count_through_the_epochs(plan: Batches, batch: int) -> None:
    assert plan.epoch(batch) * plan.per_epoch <= batch < (plan.epoch(batch) + 1) * plan.per_epoch


def test_sizes_of_batches() -> None:
    assert [len(Batches(10, 4, 0).indices(k)) for k in range(4)] == [4, 4, 2, 4]
    assert [len(Batches(10, 4, 0, drop_last=True).indices(k)) for k in range(4)] == [4, 4, 4, 4]
    assert (Batches(10, 4, 0).per_epoch, Batches(10, 4, 0, drop_last=True).per_epoch) == (3, 2)
    assert Batches(10, 5, 0).per_epoch == Batches(10, 5, 0, drop_last=True).per_epoch == 2


def test_the_permutation_is_pinned() -> None:
    assert [Batches(10, 5, 0).indices(k).tolist() for k in (0, 1, 2)] == [
        [6, 8, 2, 9, 5],
        [7, 1, 3, 4, 0],
        [0, 4, 2, 5, 7],
    ]


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(Batches(50, 50, seed).indices(epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


def test_the_answer_can_be_changed_without_changing_the_next() -> None:
    plan = Batches(6, 3, 0)
    before = plan.indices(0)
    plan.indices(0)[:] = 0
    assert plan.indices(0).tolist() == before.tolist()


def test_the_cache_is_bounded() -> None:
    plan = Batches(6, 3, 0)
    for k in range(200):
        plan.indices(k)
    info = batches.permutation.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize


def test_is_plain_data() -> None:
    plan = Batches(int(np.int64(6)), np.int64(3), 1)  # type: ignore[arg-type]
    assert pickle.loads(pickle.dumps(plan)) == plan
    assert dataclasses.asdict(plan) == {"size": 6, "batch_size": 3, "seed": 1, "drop_last": False}
    assert type(plan.batch_size) is int


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 11}, "batch_size must be at most the 10 examples there are, got 11"),
        ({"batch_size": True}, r"batch_size must be a whole number of at least \d, got True"),
        ({"batch_size": 2.0}, r"batch_size must be a whole number of at least \d, got 2.0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": None}, r"seed must be a whole number of at least \d, got None"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        Batches(**({"size": 10, "batch_size": 2, "seed": 0} | arguments))


def test_refuses_batches_before_the_first() -> None:
    with pytest.raises(ArgumentError, match="batch must be a whole number of at least 0, got -1"):
        Batches(4, 2, 0).indices(-1)


def test_fingerprints_see_names_dtypes_shapes_and_values() -> None:
    zeros = torch.zeros(4)
    same = batches.fingerprint([("a", zeros)])
    assert same == batches.fingerprint([("a", torch.zeros(4))])
    assert len(same) == 16
    others = [("b", zeros), ("a", zeros.int()), ("a", zeros.reshape(2, 2)), ("a", zeros + 1)]
    assert len({same, *(batches.fingerprint([other]) for other in others)}) == 5


@pytest.mark.parametrize(
    "tensor", [torch.tensor(1.0), torch.zeros(0), torch.ones(3, dtype=torch.bfloat16), torch.eye(3).T]
)
def test_fingerprints_take_any_dense_tensor(tensor: torch.Tensor) -> None:
    assert batches.fingerprint([("a", tensor)]) == batches.fingerprint([("a", tensor.clone())])
