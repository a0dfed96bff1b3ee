"""A batch in chunks: the same gradient where examples do not meet, and that of the chunks where they do."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import unstale
from unstale.errors import ArgumentError
from unstale.tasks import Task, synthetic_images

INPUTS = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)).double()
DATA = INPUTS, (INPUTS.sum(1) > 0).long()
ALL = np.arange(12)


class Net(nn.Module):
    """With a parameter that no loss reaches, one that is frozen, and a norm if asked for."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.first, self.last = nn.Linear(4, 5).double(), nn.Linear(5, 2).double()
        self.norm = nn.BatchNorm1d(5).double() if norm else nn.Identity()
        self.idle = nn.Parameter(torch.ones(3).double())
        self.first.bias.requires_grad_(False)
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        out: Tensor = self.last(self.norm(self.first(x)).relu())
        return out


def task(norm: bool = False, **options: Any) -> Task:
    return Task(Net(norm), cross_entropy, DATA, DATA, **options)


def gradients(mine: Task) -> tuple[Tensor, dict[str, Tensor | None], Net]:
    model = mine.build(0)
    assert isinstance(model, Net)
    loss = mine.loss_of(model, mine.batch(ALL))
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}, model


@pytest.mark.parametrize(("size", "sizes"), [(12, [12]), (4, [4, 4, 4]), (5, [5, 5, 2]), (1, [1] * 12), (99, [12])])
def test_the_gradient_is_that_of_the_batch(size: int, sizes: list[int]) -> None:
    loss, expected, _ = gradients(task())
    chunked, found, model = gradients(task(micro_batch=size))
    assert model.sizes == sizes
    torch.testing.assert_close(chunked, loss)
    for name in ("first.weight", "last.weight", "last.bias"):
        torch.testing.assert_close(found[name], expected[name])
    assert found["first.bias"] is None
    assert not torch.as_tensor(found["idle"]).any()


def test_batchnorm_sees_chunks() -> None:
    _, found, model = gradients(task(norm=True, micro_batch=5))
    by_hand = copy.deepcopy(task(norm=True).build(0))
    for start, stop in ((0, 5), (5, 10), (10, 12)):
        (cross_entropy(by_hand(INPUTS[start:stop]), DATA[1][start:stop]) * (stop - start) / 12).backward()
    for name, parameter in by_hand.named_parameters():
        if name not in ("idle", "first.bias"):
            torch.testing.assert_close(found[name], parameter.grad)
    for name, buffer in by_hand.named_buffers():
        torch.testing.assert_close(dict(model.named_buffers())[name], buffer)
    assert int(dict(by_hand.named_buffers())["norm.num_batches_tracked"]) == 3


def test_without_gradients_it_is_the_mean() -> None:
    plain, chunked = task(), task(micro_batch=5)
    with torch.no_grad():
        losses = [mine.loss_of(mine.build(0), mine.batch(ALL)) for mine in (plain, chunked)]
    torch.testing.assert_close(*losses)
    assert not losses[1].requires_grad


def test_a_gradient_in_one_piece_for_the_engine() -> None:
    options: dict[str, Any] = {"epochs": 2, "batch_size": 6, "lr": 0.1, "dtype": torch.float64}
    runs = [
        unstale.train(task(micro_batch=size), "dana_ga", 3, strategy=strategy, **options)
        for size, strategy in ((None, "sequential"), (4, "sequential"), (4, "threads"), (4, "batched(lanes=2)"))
    ]
    for run in runs[1:]:
        np.testing.assert_allclose(run.history["loss"], runs[0].history["loss"], rtol=1e-9)
        torch.testing.assert_close(run.params["last.weight"], runs[0].params["last.weight"])
    assert runs[2].config["strategy"] == "threads(threads=2)"
    assert runs[3].config["strategy"] == "sequential"
    assert "micro-batches are for one model at a time" in str(runs[3].config["strategy_reason"])


def test_recalibration_and_evaluation() -> None:
    run = unstale.train(
        task(norm=True, micro_batch=4), "ga", 2, batch_size=6, batch_norm="recalibrate", dtype=torch.float64
    )
    assert np.isfinite(run.evaluations["loss"]).all()


def test_it_is_part_of_the_configuration() -> None:
    assert "micro_batch" not in task().describe()
    assert synthetic_images("mlp", (1, 2, 2), n=4, micro_batch=2).describe()["micro_batch"] == 2
    with pytest.raises(ArgumentError, match="micro_batch must be a whole number of at least 1, got 0"):
        task(micro_batch=0)
