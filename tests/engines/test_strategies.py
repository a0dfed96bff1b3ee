"""Every strategy gives the reference's run: per ticket, over a trajectory, and the same again when repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.contracts.test_contracts import METHODS
from tests.engines.problems import blobs, equal, trained
from unstale.clocks import Gamma
from unstale.engines import Plan
from unstale.engines.gradients import Crew, Strategy
from unstale.engines.gradients import strategy as named
from unstale.engines.simulate import prepared
from unstale.errors import ArgumentError, UnknownNameError
from unstale.methods import Method, get
from unstale.tasks import Task
from unstale.tasks.models import resnet8

UNEQUAL = Gamma(cv=0.3, heterogeneity=0.6)
STRATEGIES = ("threads", "batched(lanes=3)", "batched(lanes=2, threads=2)")
POLICIES = ("shared", "per-worker", "recalibrate")


def smooth() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Linear(6, 3))


def pictures() -> Task:
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 1, 8, 8, generator=source), torch.arange(40) % 3
    return Task(lambda: resnet8(4, 1, 3), nn.functional.cross_entropy, (x, y), (x, y))


@contextmanager
def crew(plan: Plan, strategy: Strategy) -> Iterator[tuple[Crew, list[Any]]]:
    with prepared(plan) as simulation:
        made = Crew(plan, plan.task.build(0).to(plan.dtype), simulation.server.layout, strategy)
        try:
            yield made, [simulation._out[worker] for worker in sorted(simulation._out)]
        finally:
            made.close()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("task", [lambda: blobs(smooth), pictures], ids=["mlp", "resnet8"])
def test_gradients_are_the_references(
    task: Callable[[], Task], dtype: torch.dtype, bound: float, strategy: str
) -> None:

    chosen = named(strategy)
    assert chosen is not None
    plan = Plan(task=task(), method=get("dana"), workers=6, batch_size=8, dtype=dtype, strategy="sequential")
    with crew(plan, Strategy()) as (reference, tickets):
        wanted = [reference.submit([t])[0].result() for t in tickets]
        gradients = [w.gradient.clone() for w in wanted[-1:]]
        wanted_buffers = dict(wanted[-1].buffers)
        with crew(plan, chosen) as (other, _):
            groups = [tickets[k : k + chosen.lanes] for k in range(0, len(tickets), chosen.lanes)]
            found = [p.result() for p in [p for group in groups for p in other.submit(group)]]
        one, two = gradients[0], found[-1].gradient
        assert float((one - two).norm()) <= bound * float(one.norm())
        for name, value in wanted_buffers.items():
            torch.testing.assert_close(found[-1].buffers[name], value, rtol=1e-5, atol=1e-6)
    assert [f.loss for f in found] == pytest.approx([w.loss for w in wanted], rel=10 * bound)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_trajectories_are_the_references(method: Method, strategy: str) -> None:
    plan: dict[str, Any] = {"clock": UNEQUAL, "dtype": torch.float64, "epochs": 4, "batch_norm": "shared"}
    one = trained(method, 5, blobs(smooth), strategy="sequential", **plan)
    two = trained(method, 5, blobs(smooth), strategy=strategy, **plan)
    assert two.config["strategy"] != "sequential"
    assert len(one.history) >= 30
    assert one.history[["worker", "time", "delay", "outcome"]].equals(
        two.history[["worker", "time", "delay", "outcome"]]
    )
    for name, value in one.params.items():
        torch.testing.assert_close(two.params[name], value, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_batch_norm_is_the_references(strategy: str, policy: str) -> None:
    plan: dict[str, Any] = {"clock": UNEQUAL, "dtype": torch.float64, "batch_norm": policy, "epochs": 4}
    runs = [trained("dana_ga", 5, blobs(smooth), strategy=s, **plan) for s in ("sequential", strategy)]
    for name, value in runs[0].params.items():
        torch.testing.assert_close(runs[1].params[name], value, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_repeats_to_the_bit(strategy: str) -> None:
    runs = [trained("dana_ga", 6, blobs(smooth), clock=UNEQUAL, strategy=strategy, epochs=6) for _ in range(2)]
    assert equal(*runs)


def test_the_first_time_gives_the_bits_of_the_second() -> None:
    """Which of two threads comes first is chance."""
    plan = Plan(task=blobs(smooth), method=get("dana"), workers=6, batch_size=8, strategy="sequential")
    chosen = named("batched(lanes=3)")
    assert chosen is not None
    with crew(plan, chosen) as (made, tickets):
        once, again = ([pending.result() for pending in made.submit(tickets[:3])] for _ in range(2))
        for one, other in zip(once, again, strict=True):
            assert one.loss == other.loss
            assert torch.equal(one.gradient, other.gradient)


@pytest.mark.parametrize("executor", ["blocks", "compiled"])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_executors_give_the_same_run(method: Method, executor: str) -> None:
    plan: dict[str, Any] = {"clock": UNEQUAL, "dtype": torch.float64, "strategy": "sequential", "epochs": 4}
    runs = [trained(method, 5, blobs(smooth), executor=e, **plan) for e in ("blocks", executor)]
    for name, value in runs[0].params.items():
        torch.testing.assert_close(runs[1].params[name], value, rtol=1e-8, atol=1e-8)


def frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    model[1].eval()
    return model


class Cumulative(nn.Module):
    """momentum=None reads its count as a Python number, which a map over lanes cannot have."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=None), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.2), nn.Linear(6, 3))


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6)), nn.Linear(6, 3))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", [frozen, Cumulative, dropping, spectral])
def test_models_that_cannot_be_batched_fall_back(model: Callable[[], nn.Module], strategy: str) -> None:
    """With a note, never an error; and whatever way is taken, the run is the reference's."""
    plan: dict[str, Any] = {"clock": UNEQUAL, "dtype": torch.float64}
    one = trained("ga", 5, blobs(model), strategy="sequential", **plan)
    two = trained("ga", 5, blobs(model), strategy=strategy, **plan)
    for name, value in one.params.items():
        torch.testing.assert_close(two.params[name], value, rtol=1e-8, atol=1e-8)
    if model is dropping:
        assert "draws random numbers" in str(two.config["strategy_reason"])
    if two.config["strategy"] == "sequential":
        assert str(two.config["strategy_reason"]).startswith("one by one instead of")


def test_what_was_chosen_is_stored_and_can_be_asked_for_again() -> None:
    run = trained("dana_ga", 4, strategy="batched(lanes=2)")
    assert run.config["strategy"] == "batched(lanes=2)"
    assert equal(run, trained("dana_ga", 4, strategy=str(run.config["strategy"])))
    assert trained("dana_ga", 4, strategy="auto").config["strategy"] == "sequential", "too little to measure for"
    assert trained("dana_ga", 1, strategy="batched").config["strategy"] == "sequential"


@pytest.mark.parametrize("bad", ["fast", "batched(rows=2)", "sequential(threads=2)", "threads(lanes=4)", 3])
def test_bad_strategies_are_refused_at_once(bad: Any) -> None:
    with pytest.raises((ArgumentError, UnknownNameError)):
        Plan(task=blobs(), method=get("asgd"), strategy=bad)


def test_lower_precision_is_only_for_those_who_ask() -> None:
    exact, rough = (trained("asgd", 3, precision=p, strategy="sequential") for p in ("full", "bf16"))
    assert not equal_params(exact.params, rough.params)
    for name, value in exact.params.items():
        torch.testing.assert_close(rough.params[name], value, rtol=0.1, atol=0.1)


def equal_params(one: Any, other: Any) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class Spectral(nn.Module):
    """Its backward pass conjugates."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, generator=torch.Generator().manual_seed(1)))
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.fft.irfft(torch.fft.rfft(x) * torch.view_as_complex(self.weight), n=4)
        out: Tensor = self.last(mixed)
        return out


def test_a_spectral_layer_is_the_references() -> None:
    plan: dict[str, Any] = {"dtype": torch.float64, "epochs": 3}
    one = trained(get("dana_ga"), 5, blobs(Spectral), strategy="sequential", **plan)
    two = trained(get("dana_ga"), 5, blobs(Spectral), strategy="batched(lanes=3)", **plan)
    for name, value in one.params.items():
        torch.testing.assert_close(two.params[name], value, rtol=1e-8, atol=1e-10)


class Forgetful(nn.Module):
    """Depends on how often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.calls = nn.Linear(4, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        out: Tensor = self.last(x) * float(self.calls % 3)
        return out


def test_a_model_with_a_memory_of_its_own_is_computed_one_by_one() -> None:
    run = trained(get("asgd"), 5, blobs(Forgetful), strategy="batched(lanes=3)", epochs=1)
    assert run.config["strategy"] == "sequential"
    assert "depend on more than their tickets" in str(run.config["strategy_reason"])


def test_groups_that_are_done_are_not_kept() -> None:
    chosen = "batched(lanes=2, threads=2)"
    plan = Plan(task=blobs(smooth), method=get("asgd"), workers=9, batch_size=8, epochs=40, strategy=chosen)
    with prepared(plan) as simulation:
        simulation.advance(60)
        assert simulation._planner is not None
        assert len(simulation._planner._crew.waiting) <= 5
