from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from unstale.errors import ArgumentError
from unstale.tasks import quadratic


def at(model: torch.nn.Module, point: torch.Tensor) -> torch.nn.Module:
    with torch.no_grad():
        next(model.parameters()).copy_(point)
    return model


def test_gradient_is_curvature_times_distance_to_the_samples() -> None:
    task = quadratic(dimensions=4, samples=20, condition=100.0)
    theta = torch.tensor([1.0, -2.0, 3.0, 0.5])
    model = at(task.build(0), theta)
    indices = np.array([3, 3, 17])
    assert torch.equal(model(torch.zeros(1, 4))[0], theta)
    batch = task.batch(indices)
    loss = task.loss_of(model, batch)
    loss.backward()
    x = batch[0]
    a = torch.tensor([1.0, 100 ** (-1 / 3), 100 ** (-2 / 3), 0.01])
    torch.testing.assert_close(task.curvature, a)
    torch.testing.assert_close(loss.detach(), (0.5 * a * (theta - x) ** 2).sum(1).mean())
    torch.testing.assert_close(next(model.parameters()).grad, a * (theta - x.mean(0)))


def test_the_optimum_is_the_mean_of_the_samples() -> None:
    task = quadratic(samples=100)
    everything = task.batch(np.arange(100))
    torch.testing.assert_close(task.optimum, everything[0].mean(0))
    model = at(task.build(0), task.optimum)
    task.loss_of(model, everything).backward()
    gradient = next(model.parameters()).grad
    assert gradient is not None
    assert float(gradient.abs().max()) < 1e-6
    assert task.evaluate(model).score == pytest.approx(0.0, abs=1e-6)


def test_the_score_is_the_distance_to_the_optimum() -> None:
    task = quadratic(dimensions=3, samples=50)
    for point in (torch.zeros(3), torch.tensor([3.0, -4.0, 5.0])):
        score = task.evaluate(at(task.build(0), point), batch_size=7).score
        assert score == pytest.approx(float((point - task.optimum).norm()), rel=1e-6)
    assert (task.higher_is_better, task.score_name, task.chance) == (False, "distance", None)


def test_the_excess_loss_is_the_quadratic_form() -> None:
    task = quadratic(dimensions=5, condition=7.0)
    theta = torch.full((5,), -1.0)
    excess = task.evaluate(at(task.build(0), theta)).loss - task.evaluate(at(task.build(0), task.optimum)).loss
    assert excess == pytest.approx(float(0.5 * (task.curvature * (theta - task.optimum) ** 2).sum()), rel=1e-5)


def test_without_noise_one_step_along_the_steepest_axis_is_enough() -> None:
    task = quadratic(dimensions=1, samples=3, noise=0.0)
    model = task.build(0)
    task.loss_of(model, task.batch(np.array([1]))).backward()
    parameter = next(model.parameters())
    assert parameter.grad is not None
    assert task.evaluate(at(model, parameter.detach() - parameter.grad)).score == 0.0


def test_starts_at_zero_whatever_the_seed_and_depends_on_its_own() -> None:
    task = quadratic()
    assert not any(parameter.any() for seed in (0, 1) for parameter in task.build(seed).parameters())
    assert quadratic().describe() == task.describe() != quadratic(seed=1).describe()
    assert quadratic(condition=2.0).describe() != task.describe()
    assert json.loads(json.dumps(task.describe())) == task.describe()


def test_global_random_numbers_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    quadratic().build(0)
    assert torch.equal(before, torch.random.get_rng_state())


def test_float64_models_stay_float64() -> None:
    task = quadratic()
    assert task.loss_of(task.build(0).double(), task.batch(np.arange(4))).dtype == torch.float64


def test_pickling() -> None:
    task = quadratic()
    again = pickle.loads(pickle.dumps(task))
    assert again.describe() == task.describe()
    assert torch.equal(again.optimum, task.optimum)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dimensions": 0}, "dimensions must be a whole number of at least 1"),
        ({"samples": 1.5}, "samples must be a whole number"),
        ({"condition": 0.5}, "condition must be a finite number of at least 1, got 0.5"),
        ({"condition": True}, "condition must be a finite number of at least 1, got True"),
        ({"condition": float("nan")}, "condition must be a finite number"),
        ({"noise": -1.0}, "noise must be a finite number of at least 0, got -1.0"),
        ({"noise": float("inf")}, "noise must be a finite number"),
        ({"noise": "1"}, "noise must be a finite number"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        quadratic(**options)
