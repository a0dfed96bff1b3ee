"""The vectorised schedule is, to the bit, what a heap of workers gives."""

import heapq
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clocks.examples import CLOCKS
from unstale.clocks import Clock, Constant, Gamma, Pareto, Schedule, Trace, schedule

every_clock = pytest.mark.parametrize("clock", CLOCKS, ids=repr)


def by_heap(clock: Clock, workers: int, pushes: int, seed: int) -> list[tuple[int, float, int]]:
    """(worker, time, delay) of each push, one event after the other."""
    stream = clock.stream(seed)
    heap = [(0.0 + stream.duration(worker, 0), worker, 0, 0) for worker in range(workers)]
    heapq.heapify(heap)
    events = []
    for version in range(pushes):
        time, worker, job, pulled = heap[0]
        events.append((worker, time, version - pulled))
        heapq.heapreplace(heap, (time + stream.duration(worker, job + 1), worker, job + 1, version + 1))
    return events


def by_loop(clock: Clock, workers: int, pushes: int, seed: int) -> float:
    """Time of synchronous training, one round after the other."""
    stream, time, job = clock.stream(seed), 0.0, 0
    while pushes > 0:
        time += max(stream.duration(worker, job) for worker in range(min(workers, pushes)))
        pushes, job = pushes - workers, job + 1
    return time


def rows(schedule: Schedule) -> list[tuple[int, float, int]]:
    return list(zip(schedule.worker.tolist(), schedule.time.tolist(), schedule.delay.tolist(), strict=True))


times = st.floats(1e-3, 1e3)
clocks = st.one_of(
    st.sampled_from(CLOCKS),
    st.builds(Constant, speeds=st.lists(st.sampled_from([1.0, 2.0, 3.0, 50.0]), max_size=5).map(tuple)),
    st.builds(Gamma, cv=st.floats(1e-6, 3), heterogeneity=st.floats(1e-6, 1.5), mean=times),
    st.builds(Pareto, shape=st.floats(1.01, 5), communication=st.floats(0, 1)),
    st.builds(Trace, st.lists(st.lists(times, min_size=1).map(tuple), min_size=1, max_size=4).map(tuple)),
)


@settings(deadline=None, max_examples=150)
@given(clock=clocks, workers=st.integers(1, 150), pushes=st.integers(0, 800), seed=st.integers(0, 2**64))
def test_schedule_equals_the_heap(clock: Clock, workers: int, pushes: int, seed: int) -> None:
    assert rows(clock.schedule(workers, pushes, seed)) == by_heap(clock, workers, pushes, seed)


@settings(deadline=None, max_examples=60)
@given(clock=clocks, workers=st.integers(1, 150), pushes=st.integers(0, 800), seed=st.integers(0, 2**64))
def test_synchronous_time_equals_the_loop(clock: Clock, workers: int, pushes: int, seed: int) -> None:
    assert clock.synchronous_time(workers, pushes, seed) == by_loop(clock, workers, pushes, seed)


@given(
    times=st.lists(st.one_of(st.sampled_from([1.0, 2.0, 2.0**-20]), st.floats(1e-300, 1e300)), min_size=1, max_size=60),
    workers=st.integers(1, 9),
    precision=st.integers(1, 52),
    data=st.data(),
)
def test_order_is_exact_where_times_round_to_the_same(
    times: list[float], workers: int, precision: int, data: st.DataObject
) -> None:
    who = data.draw(st.lists(st.integers(0, workers - 1), min_size=len(times), max_size=len(times)))
    worker, time = schedule._in_order(np.array(who), np.array(times), workers, precision)
    assert list(zip(time.tolist(), worker.tolist(), strict=True)) == sorted(zip(times, who, strict=True))


@pytest.mark.parametrize(("clock", "workers"), [(Gamma(cv=1e-6), 7), (Constant(speeds=(1.0, 3.0, 100.0)), 200)])
def test_a_cache_that_is_too_small_changes_no_schedule(
    clock: Clock, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(clock.schedule(workers, 3000, seed=3))
    monkeypatch.setattr(schedule, "_CHUNK", 5)
    monkeypatch.setattr(schedule, "_KEPT", 1)
    assert rows(clock.schedule(workers, 3000, seed=3)) == expected == by_heap(clock, workers, 3000, seed=3)


def test_a_schedule_longer_than_a_chunk() -> None:
    pushes = schedule._CHUNK + 1000
    worker, _, delay = Gamma().schedule(40, pushes, seed=0)
    for i in (0, 39):
        np.testing.assert_array_equal(delay[worker == i], np.diff(np.flatnonzero(worker == i), prepend=-1) - 1)


@every_clock
def test_long_schedule_equals_the_heap(clock: Clock) -> None:
    assert rows(clock.schedule(32, 5000, seed=3)) == by_heap(clock, 32, 5000, seed=3)


@every_clock
@pytest.mark.parametrize("workers", [1, 7, 100])
def test_delays_are_conserved(clock: Clock, workers: int) -> None:
    """Σ τ + Σ_i (T − t_i) = (N − 1)·T, with t_i the version at worker i's latest pull."""
    pushes = 3000
    worker, _, delay = clock.schedule(workers, pushes, seed=0)
    pulled = np.zeros(workers, dtype=np.int64)
    np.maximum.at(pulled, worker, np.arange(1, pushes + 1))
    assert delay.sum() + (pushes - pulled).sum() == (workers - 1) * pushes


@pytest.mark.parametrize(("workers", "pushes"), [(1, 10), (8, 800), (8, 803), (32, 3200)])
def test_round_robin(workers: int, pushes: int) -> None:
    worker, time, delay = Constant(mean=2.0).schedule(workers, pushes, seed=0)
    np.testing.assert_array_equal(worker, np.arange(pushes) % workers)
    np.testing.assert_array_equal(time, 2.0 * (1 + np.arange(pushes) // workers))
    np.testing.assert_array_equal(delay, np.minimum(np.arange(pushes), workers - 1))
    mean = Fraction(int(delay.sum()), pushes)
    assert mean == workers - 1 - Fraction(workers * (workers - 1), 2 * pushes)


@pytest.mark.parametrize("clock", [Constant(speeds=(1.0, 7.0)), Gamma(), Gamma(heterogeneity=0.6), Pareto()], ids=repr)
def test_mean_delay_tends_to_the_other_workers(clock: Clock) -> None:
    workers, pushes = 32, 50_000
    assert clock.schedule(workers, pushes, seed=0).delay.mean() == pytest.approx(workers - 1, rel=0.02)


@every_clock
def test_a_shorter_schedule_is_the_start_of_a_longer_one(clock: Clock) -> None:
    long = clock.schedule(10, 2000, seed=4)
    for short, whole in zip(clock.schedule(10, 77, seed=4), long, strict=True):
        np.testing.assert_array_equal(short, whole[:77])


def test_wildly_unequal_speeds() -> None:
    """The slow worker wins its tie with the 8192nd push of the fast one, and is as late as can be."""
    worker, time, delay = Constant(speeds=(1.0, 2.0**13)).schedule(2, 16_000, seed=0)
    assert np.flatnonzero(worker == 0).tolist() == [8191]
    assert time[8191] == time[8192] == 1.0
    assert delay[8191] == 8191


def test_more_workers_than_16_bits() -> None:
    workers = 2**16 + 100
    worker, _, delay = Constant().schedule(workers, 2 * workers, seed=0)
    np.testing.assert_array_equal(worker, np.tile(np.arange(workers), 2))
    np.testing.assert_array_equal(delay[workers:], workers - 1)


def test_types_and_empty_schedules() -> None:
    for pushes in (0, 5):
        schedule = Gamma().schedule(3, pushes, seed=0)
        assert [len(column) for column in schedule] == [pushes] * 3
        assert [column.dtype for column in schedule] == [np.int64, np.float64, np.int64]
    assert Gamma().synchronous_time(3, 0, seed=0) == 0.0
