"""Gradients are clipped by their workers as torch clips them, for every method and strategy alike."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unstale
from tests.engines.problems import blobs, trained
from unstale.clocks import Gamma
from unstale.engines import Plan
from unstale.engines.clipping import clipped
from unstale.engines.gradients import Computed
from unstale.methods import get

UNEQUAL = Gamma(cv=0.3, heterogeneity=0.6)


def computed(gradient: Tensor) -> Computed:
    return Computed(1.0, gradient, {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("limit", [1e-3, 0.25, 1e9])
def test_clipping_is_torchs(limit: float, dtype: torch.dtype) -> None:
    parts = [torch.randn(n, generator=torch.Generator().manual_seed(n)).to(dtype) for n in (3, 700, 1)]
    weights = [nn.Parameter(torch.zeros_like(part)) for part in parts]
    for weight, part in zip(weights, parts, strict=True):
        weight.grad = part.clone()
    torch.nn.utils.clip_grad_norm_(weights, limit)
    wanted = torch.cat([weight.grad for weight in weights if weight.grad is not None])
    found = clipped(computed(torch.cat(parts)), limit)
    assert found.gradient.dtype == dtype
    assert found.loss == 1.0
    torch.testing.assert_close(found.gradient, wanted, rtol=0.02 if dtype is torch.bfloat16 else 1e-6, atol=0)


def test_no_limit_does_nothing_and_the_given_gradient_is_left_alone() -> None:
    given = computed(torch.full((4,), 3.0))
    assert clipped(given, None) is given
    assert float(clipped(given, 0.5).gradient.norm()) == pytest.approx(0.5)
    assert torch.equal(given.gradient, torch.full((4,), 3.0))


def test_squares_that_leave_half_precision_do_not_zero_a_gradient() -> None:
    found = clipped(computed(torch.full((100,), 3000.0, dtype=torch.float16)), 1.0)
    torch.testing.assert_close(found.gradient, torch.full((100,), 0.1, dtype=torch.float16))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_still_is_not(bad: float) -> None:
    gradient = torch.ones(5)
    gradient[2] = bad
    assert not torch.isfinite(clipped(computed(gradient), 0.25).gradient).all()


@pytest.mark.parametrize("decoupled", [False, True])
def test_one_worker_is_the_loop_that_everybody_writes(decoupled: bool) -> None:
    """Backward, clip_grad_norm_, Adam or AdamW, CosineAnnealingLR: in float64 to rounding."""
    task = blobs(size=50)
    method = get("adam", decoupled=decoupled)
    options: dict[str, Any] = {"weight_decay": 0.05, "clip": 1.0, "dtype": torch.float64, "epochs": 4}
    run = trained(method, 1, task, lr=unstale.Recipe(0.05, decay="cosine"), **options)
    plan = Plan(task=task, method=method, batch_size=8)
    model = task.build(0).double()
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    optimiser = kind(model.parameters(), lr=0.05, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=28)
    rates, cut = [], 0
    for batch in range(28):
        x, y = task.batch(plan.batches.indices(batch))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x.double()), y).backward()
        cut += float(nn.utils.clip_grad_norm_(model.parameters(), 1.0)) > 1.0
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert 0 < cut < 28  # both happen
    assert run.history["lr"].tolist() == pytest.approx(rates, abs=1e-15)
    for name, value in model.named_parameters():
        torch.testing.assert_close(run.params[name], value.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("strategy", ["threads", "batched(lanes=3)", "batched(lanes=2, threads=2)"])
@pytest.mark.parametrize("method", ["ga_adam", "dana_ga", "dc_asgd", "sync"])
def test_strategies_clip_alike(method: str, strategy: str) -> None:
    plan: dict[str, Any] = {"clock": UNEQUAL, "dtype": torch.float64, "clip": 0.25}
    one = trained(method, 5, strategy="sequential", **plan)
    two = trained(method, 5, strategy=strategy, **plan)
    bare = trained(method, 5, strategy="sequential", **{**plan, "clip": None})
    for name, value in one.params.items():
        torch.testing.assert_close(two.params[name], value, rtol=1e-8, atol=1e-8)
        assert not torch.allclose(bare.params[name], value, rtol=1e-3)
    assert one.config["clip"] == 0.25


def test_weight_decay_is_not_clipped() -> None:
    """The server adds it after the push: gradients clipped to nothing leave θ ← (1 − ηλ)θ."""
    run = trained("asgd", 1, clip=1e-30, weight_decay=0.5, lr=0.1, dtype=torch.float64)
    start = blobs().build(0).state_dict()["weight"].double()
    torch.testing.assert_close(run.params["weight"], start * (1 - 0.05) ** len(run.history))
