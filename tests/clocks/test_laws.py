"""Each law has the mean and the spread that its docstring promises."""

import math

import numpy as np
import pytest

from unstale.clocks import Clock, Constant, Gamma, Pareto, Preemption, ShiftedExponential

LAWS = [
    # clock, mean, coefficient of variation
    (Gamma(), 1.0, 0.1),
    (Gamma(cv=1.0, mean=3.0), 3.0, 1.0),
    (ShiftedExponential(), 1.0, 0.5),
    (ShiftedExponential(fraction=0.0), 1.0, 0.0),
    (ShiftedExponential(fraction=1.0, mean=2.0), 2.0, 1.0),
    (Pareto(shape=6.0, mean=2.0), 2.0, 1 / math.sqrt(24)),
    (Preemption(uptime=2.0, downtime=0.5), 1.25, 0.5 * math.sqrt(2 / 2.0) / 1.25),
    (Preemption(uptime=5.0, downtime=0.0, mean=3.0), 3.0, 0.0),
]


@pytest.mark.parametrize(("clock", "mean", "cv"), LAWS)
def test_mean_and_spread(clock: Clock, mean: float, cv: float) -> None:
    n = 64 * 4096
    sample = clock.durations(64, 0, 4096, seed=1)
    assert sample.mean() == pytest.approx(mean, abs=5 * mean * cv / math.sqrt(n) + 1e-12)
    assert sample.std() / sample.mean() == pytest.approx(cv, rel=0.03, abs=1e-12)


def test_communication_is_added_to_every_job() -> None:
    alone, sent = Gamma().durations(3, 0, 9, 0), Gamma(communication=0.25).durations(3, 0, 9, 0)
    np.testing.assert_array_equal(sent, alone + 0.25)


def test_constant_speeds_are_cycled() -> None:
    durations = Constant(mean=2.0, speeds=(1, 4)).durations(5, 7, 9, seed=3)
    np.testing.assert_array_equal(durations, np.repeat([[2.0], [0.5], [2.0], [0.5], [2.0]], 2, axis=1))


def test_shifted_exponential_and_pareto_have_their_least_values() -> None:
    assert ShiftedExponential(fraction=0.25).durations(64, 0, 640, 0).min() == pytest.approx(0.75, abs=1e-3)
    assert Pareto(shape=3.0, mean=3.0).durations(64, 0, 640, 0).min() == pytest.approx(2.0, abs=1e-3)


def test_pareto_tail() -> None:
    """P(T > t) = (least / t)^a; means say little about a heavy tail."""
    sample = Pareto(shape=1.5).durations(64, 0, 4096, 0) * 3.0
    assert np.mean(sample > 100 ** (1 / 1.5)) == pytest.approx(0.01, rel=0.1)


def test_preemption_without_an_outage_takes_the_mean() -> None:
    sample = Preemption(uptime=2.0, downtime=1.0).durations(64, 0, 1024, 0)
    assert np.mean(sample == 1.0) == pytest.approx(math.exp(-0.5), abs=0.01)


@pytest.mark.parametrize(("workers", "ratio"), [(8, 1.147), (32, 1.219), (64, 1.250)])
def test_cost_of_a_synchronous_round(workers: int, ratio: float) -> None:
    rounds = 12_800
    assert Gamma().synchronous_time(workers, workers * rounds, seed=0) / rounds == pytest.approx(ratio, abs=0.002)


def test_throughput_of_unequal_machines() -> None:
    workers, pushes = 16_384, 600_000
    schedule = Gamma(heterogeneity=0.6).schedule(workers, pushes, seed=0)
    throughput = pushes / schedule.time[-1] / workers
    assert throughput == pytest.approx(1 / (1 - 0.36), rel=0.04)


def test_unequal_machines_keep_the_mean_time() -> None:
    means = Gamma(heterogeneity=0.6, mean=2.0).durations(16_384, 0, 64, seed=0).mean(axis=1)
    assert means.mean() == pytest.approx(2.0, rel=0.03)
    assert means.std() / means.mean() == pytest.approx(0.6, rel=0.03)


def test_fastest_and_slowest_of_32_unequal_workers() -> None:
    means = Gamma(cv=1e-6, heterogeneity=0.6).durations(32 * 640, 0, 1, seed=0).reshape(640, 32)
    ratio = means.max(axis=1) / means.min(axis=1)
    low, median, high = np.quantile(ratio, [0.1, 0.5, 0.9])
    assert 13 < median < 17
    assert 7 < low < 9
    assert 27 < high < 38
