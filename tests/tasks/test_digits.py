from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from unstale.errors import ArgumentError, UnknownNameError
from unstale.tasks import Task, digits
from unstale.tasks.digits import _split


@pytest.fixture(scope="module")
def task() -> Task:
    return digits()


def test_sizes_and_shapes(task: Task) -> None:
    inputs, target = task.batch(np.arange(task.train_size))
    assert (task.train_size, task.test_size) == (1437, 360)
    assert (inputs.shape, inputs.dtype) == ((1437, 1, 8, 8), torch.float32)
    assert (target.shape, target.dtype) == ((1437,), torch.int64)
    assert float(inputs.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(inputs.std()) == pytest.approx(1.0, abs=1e-4)


def test_the_split_is_disjoint_complete_and_stratified() -> None:
    from sklearn.datasets import load_digits

    labels = load_digits().target
    train, test = _split(labels)
    assert sorted([*train, *test]) == list(range(1797))
    shares = np.bincount(labels[test]) - np.bincount(labels) / 5
    assert np.abs(shares).max() < 1


def test_the_data_are_pinned(task: Task) -> None:
    described = task.describe()
    assert (described["train"], described["test"]) == ("663d7089f1d6db72", "9389d037cb75e830")


def test_values_are_standardised_pixels(task: Task) -> None:
    from sklearn.datasets import load_digits

    digits_ = load_digits()
    train, _ = _split(digits_.target)
    raw = digits_.images[train]
    inputs, target = task.batch(np.arange(3))
    np.testing.assert_allclose(inputs[:, 0].numpy(), (raw[:3] - raw.mean()) / raw.std(), rtol=1e-5)
    assert target.tolist() == digits_.target[train[:3]].tolist()


def test_chance_is_what_a_constant_answer_scores(task: Task) -> None:
    class Always(torch.nn.Module):
        def __init__(self, answer: int) -> None:
            super().__init__()
            self.answer = answer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[self.answer].expand(len(x), 10)

    scores = [task.evaluate(Always(answer), batch_size=100).score for answer in range(10)]
    assert task.chance == pytest.approx(max(scores), abs=1e-12) == 100 * 37 / 360
    assert sum(scores) == pytest.approx(100)


@pytest.mark.parametrize("model", ["mlp", "resnet8", "resnet20"])
def test_every_model_trains_a_step(model: str) -> None:
    task = digits(model, width=4)
    net = task.build(0)
    batch = task.batch(np.arange(64))
    before = task.loss_of(net, batch)
    before.backward()
    with torch.no_grad():
        for parameter in net.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.05 * parameter.grad)
    assert task.loss_of(net, batch) < before
    assert (task.name, task.model_name, task.score_name) == ("digits", model, "accuracy")


def test_pickling(task: Task) -> None:
    again = pickle.loads(pickle.dumps(task))
    assert again.describe() == task.describe()
    assert again.evaluate(again.build(0)) == task.evaluate(task.build(0))


def test_refusals() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'resnet'"):
        digits("resnet")
    with pytest.raises(ArgumentError, match="width must be a whole number"):
        digits(width=2.5)  # type: ignore[arg-type]
