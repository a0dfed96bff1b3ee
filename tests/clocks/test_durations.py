"""A duration depends on (seed, worker, job) alone."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.clocks.examples import CLOCKS
from unstale.clocks import Clock, Constant, Gamma, Trace
from unstale.clocks.base import _generator
from unstale.describe import describe

every_clock = pytest.mark.parametrize("clock", CLOCKS, ids=repr)


@every_clock
def test_durations_are_positive_and_repeat(clock: Clock) -> None:
    first = clock.durations(70, 3, 140, seed=5)
    assert first.shape == (70, 137)
    assert first.dtype == np.float64
    assert np.all(np.isfinite(first) & (first > 0))
    np.testing.assert_array_equal(first, clock.durations(70, 3, 140, seed=5))


@every_clock
def test_adding_workers_or_jobs_changes_nothing(clock: Clock) -> None:
    many = clock.durations(200, 0, 200, seed=1)
    np.testing.assert_array_equal(clock.durations(3, 0, 10, seed=1), many[:3, :10])
    np.testing.assert_array_equal(clock.durations(65, 63, 129, seed=1), many[:65, 63:129])


@every_clock
def test_random_access_equals_sequential(clock: Clock) -> None:
    expected = clock.durations(130, 0, 130, seed=2)
    stream = clock.stream(seed=2)
    places = np.random.default_rng(0).integers(0, 130, size=(300, 2))
    for worker, job in places.tolist():
        assert stream.duration(worker, job) == expected[worker, job]
    assert [stream.duration(64, job) for job in range(130)] == expected[64].tolist()
    assert clock.duration(129, 64, seed=2) == expected[129, 64]


@given(
    clock=st.sampled_from(CLOCKS),
    seed=st.integers(0, 2**70),
    worker=st.integers(0, 2**40),
    job=st.integers(0, 2**40),
)
def test_far_away_jobs_are_cheap_and_repeat(clock: Clock, seed: int, worker: int, job: int) -> None:
    assert clock.duration(worker, job, seed) == clock.duration(worker, job, seed) > 0


def test_seeds_workers_and_tiles_differ() -> None:
    clock = Gamma()
    durations = np.stack([clock.durations(192, 0, 192, seed) for seed in (0, 1, 2**64, 2**64 + 1)])
    assert len(np.unique(durations)) == durations.size


def test_drawing_moves_only_the_lowest_word_of_the_counter() -> None:
    """So tiles cannot overlap: each would need 2^64 blocks of its own to reach the next."""
    key = np.array([1, 2], dtype=np.uint64)
    rng = _generator(key, worker_tile=5, job_tile=7, purpose=1)
    rng.random(100_000)
    state = rng.bit_generator.state["state"]
    np.testing.assert_array_equal(state["counter"][1:], [5, 7, 1])
    assert state["counter"][0] == 25_000


def test_neighbouring_tiles_share_no_numbers() -> None:
    key = np.array([1, 2], dtype=np.uint64)
    draws = [_generator(key, *place).random(4096) for place in np.ndindex(3, 3, 2)]
    assert len(np.unique(draws)) == 3 * 3 * 2 * 4096


@every_clock
def test_clocks_are_plain_data(clock: Clock) -> None:
    clock.duration(0, 0, 0)
    again = pickle.loads(pickle.dumps(clock))
    assert again == clock
    assert hash(again) == hash(clock)
    plain = describe(clock)
    assert isinstance(plain, dict)
    assert plain["type"] == type(clock).__name__
    assert plain["communication"] == clock.communication


def test_numbers_become_plain_floats() -> None:
    clock = Constant(mean=np.float32(2), speeds=[1, np.int64(2)])  # type: ignore[arg-type]
    assert clock == Constant(mean=2.0, speeds=(1.0, 2.0))
    assert describe(clock) == {"type": "Constant", "communication": 0.0, "mean": 2.0, "speeds": [1.0, 2.0]}


def test_a_trace_replays_from_its_start_and_starts_again() -> None:
    durations = Trace(((1.0, 2.0), (5.0,))).durations(2, 0, 5, seed=9)
    np.testing.assert_array_equal(durations, [[1, 2, 1, 2, 1], [5, 5, 5, 5, 5]])


def test_workers_beyond_those_recorded_do_not_move_in_step() -> None:
    recordings = tuple(tuple(float(1000 * i + j + 1) for j in range(500)) for i in range(2))
    one, other = (Trace(recordings).durations(150, 0, 1100, seed) for seed in (0, 1))
    np.testing.assert_array_equal(one[:2], other[:2])  # those recorded: as recorded
    np.testing.assert_array_equal(one[:2, :500], recordings)
    begins = one[:, 0]
    for worker in range(150):
        expected = np.roll(recordings[worker % 2], -(int(begins[worker]) % 1000 - 1))
        np.testing.assert_array_equal(one[worker, :500], expected)
        np.testing.assert_array_equal(one[worker, 500:1000], expected)
    assert len(set(begins)) > 100
    assert np.mean(begins == other[:, 0]) < 0.1
    np.testing.assert_allclose(np.mean(begins[2:] % 1000), 250, atol=50)  # 4 standard errors
