from __future__ import annotations

import json
import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import TensorDataset

from unstale.errors import ArgumentError
from unstale.tasks import Evaluation, Task, accuracy

INPUTS = torch.arange(14.0).reshape(7, 2)
TARGETS = torch.tensor([0, 1, 0, 1, 1, 0, 1])
DATA = INPUTS, TARGETS


def linear() -> nn.Module:
    return nn.Linear(2, 2)


def task(model: Any = linear, loss: Any = cross_entropy, train: Any = DATA, test: Any = DATA, **options: Any) -> Task:
    return Task(model, loss, train, test, **options)


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


# --- models


def test_a_factory_is_called_under_its_seed_and_leaves_no_trace() -> None:
    before = torch.random.get_rng_state()
    first, again, other = task().build(3), task().build(3), task().build(4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert same(first, again)
    assert not same(first, other)
    torch.manual_seed(3)
    expected = linear()
    torch.random.set_rng_state(before)
    assert same(first, expected)


def test_a_failing_factory_leaves_no_trace() -> None:
    def draws_and_fails() -> nn.Module:
        torch.rand(1)
        raise KeyError("no")

    before = torch.random.get_rng_state()
    with pytest.raises(KeyError):
        task(draws_and_fails).build(0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_module_is_copied_and_every_seed_starts_from_it() -> None:
    module = linear()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    module(INPUTS).sum().backward()
    mine = task(module)
    built = mine.build(0)
    assert all(parameter.grad is None for parameter in built.parameters())
    with torch.no_grad():
        for parameter in [*built.parameters(), *module.parameters()]:
            parameter.zero_()
    assert all(torch.equal(value, weights[name]) for name, value in mine.build(1).state_dict().items())


def test_evaluating_does_not_change_the_model() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2))
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mine = task(model)
    built = mine.build(0)
    assert mine.evaluate(built) == mine.evaluate(built)
    assert [module.training for module in built.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in built.parameters())


def test_modes_come_back_after_an_error() -> None:
    mine = task(nn.Linear(3, 2))
    model = mine.build(0)
    with pytest.raises(RuntimeError):
        mine.evaluate(model)
    assert model.training
    assert torch.is_grad_enabled()


# --- loss, score, evaluation


def test_means_count_every_example_the_same() -> None:
    mine = task(score=accuracy)
    model = mine.build(0)
    whole = mine.evaluate(model)
    with torch.no_grad():
        expected = float(cross_entropy(model(INPUTS), TARGETS))
        right = int((model(INPUTS).argmax(1) == TARGETS).sum())
    assert isinstance(whole, Evaluation)
    assert whole == pytest.approx((expected, 100 * right / 7), rel=1e-6)
    for size in (1, 2, 3, 5, 7):
        assert mine.evaluate(model, batch_size=size) == pytest.approx(whole, rel=1e-6)


def test_without_a_score_it_is_the_test_loss() -> None:
    mine = task()
    loss, score = mine.evaluate(mine.build(0), torch.device("cpu"))
    assert loss == score
    assert (mine.score_name, mine.higher_is_better) == ("loss", False)


def test_a_score_may_be_a_float() -> None:
    mine = task(score=lambda output, target: 5.0, score_name="five", higher_is_better=False)
    assert mine.evaluate(mine.build(0)).score == 5.0
    assert (mine.score_name, mine.higher_is_better) == ("five", False)


def test_loss_of_can_be_differentiated_for_many_models_at_once() -> None:
    mine = task()
    model = mine.build(0)

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return mine.loss_of(partial(torch.func.functional_call, model, weights), ((x,), y))

    weights = {name: torch.stack([p.detach(), 2 * p.detach()]) for name, p in model.named_parameters()}
    batched = torch.func.vmap(torch.func.grad(loss))(weights, INPUTS.expand(2, 7, 2), TARGETS.expand(2, 7))
    mine.loss_of(model, mine.batch(np.arange(7))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(batched[name][0], parameter.grad)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": 3}, "model must be a torch module, or a function of no arguments that makes one, got int"),
        ({"model": nn.LazyLinear(2)}, "model must know its shapes"),
        ({"loss": "mse"}, "loss must be a function"),
        ({"loss": nn.CrossEntropyLoss(reduction="sum")}, "loss must be the mean over the batch"),
        ({"score": 3}, "score must be a function, or None, got int"),
        ({"collate_fn": 3}, "collate_fn must be a function, or None, got int"),
    ],
)
def test_refuses_pieces_that_cannot_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        task(**changes)


def test_refuses_a_module_that_cannot_be_copied() -> None:
    model = linear()
    model.extra = next(model.parameters()) * 2
    with pytest.raises(ArgumentError, match=r"model must be copyable.*pass a function of no arguments"):
        task(model)


def test_refuses_factories_of_other_things() -> None:
    with pytest.raises(ArgumentError, match="model must be, or make, a torch module, got int"):
        task(lambda: 3).build(0)
    with pytest.raises(ArgumentError, match="seed must be a whole number"):
        task().build(None)  # type: ignore[arg-type]


def test_refuses_losses_and_scores_that_are_not_one_number() -> None:
    mine = task(loss=partial(cross_entropy, reduction="none"))
    with pytest.raises(ArgumentError, match=r"loss must give one number for a batch, got a tensor of shape \(7,\)"):
        mine.evaluate(mine.build(0))
    mine = task(loss=lambda output, target: 1.0)
    with pytest.raises(ArgumentError, match="loss must give a tensor to differentiate, got float"):
        mine.loss_of(mine.build(0), mine.batch(np.arange(2)))
    mine = task(score=lambda output, target: output)
    with pytest.raises(ArgumentError, match="score must give one number for a batch"):
        mine.evaluate(mine.build(0))


# --- description, pickling


def test_describe_is_json_and_tells_content() -> None:
    module = linear()
    described = task(module, chance=50, name="mine").describe()
    assert json.loads(json.dumps(described)) == described
    assert described == task(module, chance=50, name="mine").describe()
    assert described["model_name"] == "Linear"
    assert described["chance"] == 50.0
    assert described["train"] == described["test"] != task(train=(INPUTS + 1, TARGETS)).describe()["train"]
    assert described["weights"] != task(linear()).describe()["weights"]


def test_describe_of_things_without_fingerprint() -> None:
    described = task(
        partial(nn.Linear, 2, out_features=2), loss=mse_loss, train=list(zip(*DATA, strict=True))
    ).describe()
    assert json.loads(json.dumps(described)) == described
    assert (described["train"], described["weights"], described["model_name"]) == (None, None, "Linear")
    assert described["model"] == {"type": "torch.nn.modules.linear.Linear", "args": [2], "out_features": 2}


def test_pickling() -> None:
    for mine in (task(nn.Linear(2, 2), score=accuracy), task(partial(nn.Linear, 2, 2), train=TensorDataset(*DATA))):
        again = pickle.loads(pickle.dumps(mine))
        assert again.describe() == mine.describe()
        assert again.evaluate(again.build(1)) == mine.evaluate(mine.build(1))
