"""Figures that theory gives for simple gradients, derived by hand."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from unstale import methods
from unstale.clocks import Gamma
from unstale.flat import Group
from unstale.methods import Method
from unstale.server import Server
from unstale.testing import Arrival, Drive, Subject, round_robin, smooth, start, uneven
from unstale.testing.laws import close

LR = 0.1


def settled(method: Method, workers: int, pushes: int, gradient: float = 1.0) -> Drive:
    """A server that saw one constant gradient, round-robin, at constant η."""
    server = Server(torch.zeros(1, dtype=torch.float64), method, workers)
    drive = Drive(server, lambda point, push: torch.full_like(point, gradient))
    drive.run(round_robin(workers), pushes, LR, look=False)
    return drive


def following(drive: Drive, workers: int, pushes: int, lr: float = LR) -> list[Arrival]:
    first = drive.pushes
    return drive.run(((first + k) % workers for k in itertools.count()), pushes, lr, look=False)


def penalty(drive: Drive, workers: int) -> float:
    told = following(drive, workers, 1)[0].receipt.penalty
    assert told is not None
    return told


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_ga_divides_a_constant_gradient_by_the_workers(momentum: float) -> None:
    assert penalty(settled(methods.ga(momentum), 8, 6000), 8) == pytest.approx(8, rel=0.01)


def test_statistics_of_raw_gradients_would_give_another_number() -> None:
    """Why R watches what is applied: with raw g, C is ten times what θ moves by, and P is 3.1926 instead of 8."""

    class Raw(methods.Sgd):
        def step(self, x: methods.Block, g: torch.Tensor) -> methods.Step:
            return methods.Step(change=-x.lr * g, velocity=x.grad)

    wrong = Method(update=Raw(), penalty=methods.Gap())
    assert penalty(settled(wrong, 8, 4000), 8) == pytest.approx(3.1926, abs=1e-4)


@pytest.mark.parametrize(("workers", "limit"), [(8, 1.2), (10, 1.0), (32, 3.2)])
def test_dana_ga_measures_from_the_predicted_point(workers: int, limit: float) -> None:
    assert penalty(settled(methods.dana_ga(), workers, 8000), workers) == pytest.approx(limit, rel=0.01)


def test_dana_ga_from_the_prediction_divides_by_the_workers() -> None:
    assert penalty(settled(methods.dana_ga(reference="prediction"), 8, 4000), 8) == pytest.approx(8, rel=0.01)


def test_epsilon_shows() -> None:
    """With g = 1e-3, γ = 0, N = 32, the ε in C leaves P a little below 32."""
    drive = settled(methods.ga(momentum=0.0), 32, 40_000, gradient=1e-3)
    assert penalty(drive, 32) == pytest.approx(31.990086, abs=1e-5)


def test_ga_rebounds_after_a_decay_then_settles_lower() -> None:
    """P → 1 + (N−1)/k, after passing below and coming back on the way."""
    drive = settled(methods.ga(), 8, 6000)
    told = [a.receipt.penalty or 0.0 for a in following(drive, 8, 6000, LR / 10)]
    limit = 1 + 7 / 10
    assert told[-1] == pytest.approx(limit, rel=0.01)
    assert max(told[20:]) > 1.1 * limit


def test_dana_ga_rises_after_a_decay_then_settles_lower() -> None:
    """Points sent with the old η: 3.2 → 26.9 within N − 1 pushes at N = 32 for k = 10, then 1 + 2.2/k."""
    drive = settled(methods.dana_ga(), 32, 10_000)
    told = [a.receipt.penalty or 0.0 for a in following(drive, 32, 6000, LR / 10)]
    assert max(told[:40]) == pytest.approx(26.9, rel=0.01)
    assert told.index(max(told)) == 31  # N − 1 pushes have been applied by then
    assert told[-1] == pytest.approx(1 + 2.2 / 10, rel=0.01)


@pytest.mark.parametrize(("method", "expected"), [("nag_asgd", 7.0), ("dana", abs(7 * 0.1 - 0.9))])
def test_steady_gap_in_steps(method: str, expected: float) -> None:
    """gap/(ηv) → N − 1 for Nesterov, |(N−1)(1−γ) − γ| for DANA."""
    drive = settled(methods.get(method), 8, 1600)
    velocity = 1 / (1 - 0.9)
    assert (following(drive, 8, 1)[0].receipt.gap or 0) / (LR * velocity) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("workers", [2, 5, 32])
def test_mean_delay_of_round_robin(workers: int) -> None:
    """N − 1 − N(N−1)/(2T), exactly."""
    pushes = 7 * workers
    server = Server(start(), "asgd", workers)
    arrivals = Drive(server, smooth()).run(round_robin(workers), pushes, LR, look=False)
    total = sum(a.receipt.delay or 0 for a in arrivals)
    assert 2 * total == 2 * (workers - 1) * pushes - workers * (workers - 1)


def test_penalty_of_ga_is_bounded() -> None:
    """P ≤ 1 + √(((1+γ)² + γ² + τ − 1)/((1−ρ)ρ^τ)) whatever the gradients do: 189 at τ = 31, γ = 0.9."""

    def bound(delay: int) -> float:
        return 1 + math.sqrt((1.9**2 + 0.81 + delay - 1) / (0.001 * 0.999**delay))

    assert bound(31) == pytest.approx(189, abs=1)
    server = Server(torch.zeros(1, dtype=torch.float64), "ga", 4)
    # One spike after long silence is the worst that can happen to C.
    drive = Drive(server, lambda point, push: torch.full_like(point, 1e6 if push in (0, 500) else 0.0))
    for arrival in drive.run(uneven(4), 600, LR, look=False):
        assert (arrival.receipt.penalty or 1) <= bound(arrival.receipt.delay or 0) * (1 + 1e-6)


def two(one: Method, other: Method, workers: int = 4, **options: float) -> tuple[list[Arrival], list[Arrival]]:
    """Both methods under the same arrivals."""
    runs = [
        Drive(Subject(m).serve(start(), workers, **options), smooth()).run(uneven(workers), 60, 0.02)
        for m in (one, other)
    ]
    return runs[0], runs[1]


def same(one: list[Arrival], other: list[Arrival]) -> bool:
    return all(close(a.after, b.after) for a, b in zip(one, other, strict=True))


def test_sa_with_two_workers_in_turns_is_nag() -> None:
    """τ ≤ 1 is undivided."""
    runs = []
    for name in ("sa", "nag_asgd"):
        server = Server(start(), name, 2)
        runs.append(Drive(server, smooth()).run(round_robin(2), 40, 0.02))
    assert same(*runs)


def test_slim_pulls_what_dana_predicts() -> None:
    """At constant η and λ = 0 DANA-Slim's parameters are the points that DANA pulls."""
    zero, slim = two(methods.dana(), methods.dana_slim())
    assert all(close(a.sent, b.sent) for a, b in zip(zero, slim, strict=True))


def test_no_compensation_is_no_compensation() -> None:
    assert same(*two(methods.dc_asgd("c", c=0.0), methods.asgd()))
    assert same(*two(methods.dana_dc(c=0.0), methods.dana()))


def test_admitting_everything_is_admitting_everything() -> None:
    assert same(*two(Method(admission=methods.MaxDelay(10**9)), methods.asgd()))


def test_a_buffer_of_one_is_asgd_with_the_penalty() -> None:
    assert same(*two(methods.fedbuff(buffer=1), Method(penalty=methods.RootDelay())))


def test_norms_over_one_element_are_elements() -> None:
    """Layer-wise GA with one-element layers is element-wise GA; with one layer it is global GA."""
    groups = [Group(slice(element, element + 1)) for element in range(6)]
    runs = []
    for method, options in ((methods.ga(), {}), (methods.ga(per="layer"), {"groups": groups})):
        server = Server(start(), method, 4, **options)  # type: ignore[arg-type]
        runs.append(Drive(server, smooth()).run(uneven(4), 60, 0.02))
    assert same(*runs)
    assert same(*two(methods.ga(per="layer"), methods.ga(per="model")))


def test_sync_with_one_worker_is_sgd() -> None:
    assert same(*two(methods.sync(), methods.nag_asgd(), workers=1, weight_decay=0.1))


def test_ga_with_adam_divides_a_constant_gradient_by_the_workers_then_dips_and_returns() -> None:
    """C contains η: after a decay P falls to about 1 + (N−1)/k, while Q remembers the old steps, and comes back to N.

    With a tenth of the usual memory, 1/(1 − β₂), it takes a tenth of the pushes.
    """
    drive = settled(methods.ga_adam(beta2=0.99), 8, 700)
    assert penalty(drive, 8) == pytest.approx(8, rel=0.01)
    told = [a.receipt.penalty or 0.0 for a in following(drive, 8, 1500, LR / 10)]
    assert told.index(min(told)) in (6, 7)  # N − 1 steps with the new η have been applied by then
    assert min(told) == pytest.approx(1 + 7 / 10, rel=0.1)
    assert told[200] < 4
    assert told[-1] == pytest.approx(8, rel=0.01)


def apart(one: str, other: str, order: list[int]) -> float:
    """How far two methods end apart with 8 workers, relative to how far they went. The first 8 gradients are 0."""
    ends = []
    for name in (one, other):
        server = Server(start(), name, 8)
        drive = Drive(server, lambda point, push: smooth()(point, push) if push >= 8 else torch.zeros_like(point))
        drive.run(order, len(order), 0.003, look=False)
        ends.append(server.params)
    return float((ends[0] - ends[1]).norm() / (ends[1] - start()).norm())


def test_adam_hardly_notices_a_nearly_constant_penalty() -> None:
    """SA divides by N − 1, or nearly: Adam takes that out again, SGD takes steps so much shorter."""
    turns = [push % 8 for push in range(500)]
    assert apart("sa_adam", "adam", turns) < 1e-5
    assert apart("sa", "nag_asgd", turns) > 0.3
    nearly = Gamma(cv=0.1).schedule(8, 500, seed=1).worker.tolist()
    assert apart("sa_adam", "adam", nearly) < 0.03
    assert apart("sa", "nag_asgd", nearly) > 0.3


def test_adam_is_scale_invariant_up_to_epsilon() -> None:
    """What the former rests on: P enters m and √s alike, and is left only beside ε."""
    runs = []
    for scale in (1.0, 1 / 7):
        server = Server(start(), methods.adam(eps=1e-20), 1)
        Drive(server, lambda point, push, scale=scale: scale * smooth()(point, push)).run([0] * 50, 50, LR)  # type: ignore[misc]
        runs.append(server.params)
    assert close(runs[0], runs[1])
