"""Clocks by name, and every bad argument."""

from collections.abc import Callable

import numpy as np
import pytest

from unstale import clocks
from unstale.clocks import CLOCKS, Clock, Constant, Gamma, Pareto, Preemption, ShiftedExponential, Trace
from unstale.errors import ArgumentError, UnknownNameError


def test_names() -> None:
    assert clocks.names() == ["constant", "gamma", "pareto", "preemption", "shifted_exponential", "trace"]
    assert all(CLOCKS[name].name == name for name in clocks.names())


def test_public_names_exist_and_are_sorted() -> None:
    assert all(hasattr(clocks, name) for name in clocks.__all__)
    kinds = [name for name in clocks.__all__ if name in {kind.__name__ for kind in CLOCKS.values()}]
    assert kinds == sorted(kind.__name__ for kind in CLOCKS.values())


@pytest.mark.parametrize("name", clocks.names())
def test_every_clock_says_what_it_is(name: str) -> None:
    kind = CLOCKS[name]
    assert 0 < len(kind.summary) <= 70
    assert kind.source
    assert kind.__doc__ is not None
    assert all(word in kind.__doc__ for word in ("Unit: ", "Raises: ArgumentError"))
    assert "Spread: " in kind.__doc__ or "spread: " in kind.__doc__


@pytest.mark.parametrize("name", [name for name in clocks.names() if name != "trace"])
def test_get(name: str) -> None:
    assert clocks.get(name) == CLOCKS[name]()
    assert clocks.get(name, mean=2, communication=0.5) == CLOCKS[name](mean=2.0, communication=0.5)  # type: ignore[call-arg]


def test_get_with_its_own_parameters() -> None:
    assert clocks.get("gamma", cv=0.2, heterogeneity=0.6) == Gamma(cv=0.2, heterogeneity=0.6)
    assert clocks.get("trace", recordings=((1.0,),)) == Trace(((1.0,),))


def test_get_refuses() -> None:
    with pytest.raises(UnknownNameError, match="unknown clock 'gama'; did you mean gamma"):
        clocks.get("gama")
    with pytest.raises(ArgumentError, match=r"'gamma' has no parameter 'shape'; it has communication, cv, heterog"):
        clocks.get("gamma", shape=2.0)
    with pytest.raises(ArgumentError, match="'trace' must be given recordings"):
        clocks.get("trace")
    with pytest.raises(ArgumentError, match="cv must be positive"):
        clocks.get("gamma", cv="much")


NOT_NUMBERS = [float("nan"), float("inf"), -float("inf"), True, np.True_, None, "1", 1j, 10**400]


@pytest.mark.parametrize(
    ("kind", "field", "bad"),
    [
        (Constant, "mean", [0, -1]),
        (Constant, "communication", [-1e-9]),
        (Gamma, "cv", [0, -1, 1e-7, 3.01]),
        (Gamma, "heterogeneity", [-1, 1e-7, 3.01]),
        (Gamma, "mean", [0, -1]),
        (Gamma, "communication", [-1]),
        (ShiftedExponential, "fraction", [-0.1, 1.1]),
        (ShiftedExponential, "mean", [0]),
        (Pareto, "shape", [1, 0.5, -3]),
        (Pareto, "mean", [0]),
        (Preemption, "uptime", [0, -1, 1e-7]),
        (Preemption, "downtime", [-1]),
        (Preemption, "mean", [0]),
    ],
)
def test_bad_numbers(kind: Callable[..., Clock], field: str, bad: list[object]) -> None:
    for value in [*bad, *NOT_NUMBERS]:
        with pytest.raises(ArgumentError, match=rf"^{field} must be .*, got .*; \S"):
            kind(**{field: value})


@pytest.mark.parametrize("speeds", [1.0, "12", None, (0.0,), (1.0, -1.0), (float("nan"),), (True,), ("1",)])
def test_bad_speeds(speeds: object) -> None:
    with pytest.raises(ArgumentError, match=r"^speeds.* must be .*, got .*; \S"):
        Constant(speeds=speeds)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "recordings", [(), 1.0, None, ((),), (1.0,), ((1.0,), ()), ((0.0,),), ((1.0, float("inf")),), ((True,),)]
)
def test_bad_recordings(recordings: object) -> None:
    with pytest.raises(ArgumentError, match=r"^recordings.* must be .*, got .*; \S"):
        Trace(recordings)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [-1, 1.0, True, None, "1"])
def test_bad_counts(bad: int) -> None:
    clock = Gamma()
    calls: list[tuple[str, Callable[[], object]]] = [
        ("workers", lambda: clock.durations(bad, 0, 1, 0)),
        ("start", lambda: clock.durations(1, bad, 1, 0)),
        ("stop", lambda: clock.durations(1, 0, bad, 0)),
        ("seed", lambda: clock.durations(1, 0, 1, bad)),
        ("seed", lambda: clock.stream(bad)),
        ("seed", lambda: clock.duration(0, 0, bad)),
        ("workers", lambda: clock.schedule(bad, 1, 0)),
        ("pushes", lambda: clock.schedule(1, bad, 0)),
        ("seed", lambda: clock.schedule(1, 1, bad)),
        ("workers", lambda: clock.synchronous_time(bad, 1, 0)),
        ("pushes", lambda: clock.synchronous_time(1, bad, 0)),
        ("seed", lambda: clock.synchronous_time(1, 1, bad)),
    ]
    for name, call in calls:
        with pytest.raises(ArgumentError, match=rf"^{name} must be a whole number of at least \d, got .*; \S"):
            call()


def test_bad_places() -> None:
    stream = Gamma().stream(0)
    for worker, job, name in [(-1, 0, "worker"), (0, -1, "job")]:
        with pytest.raises(ArgumentError, match=f"^{name} must be"):
            stream.duration(worker, job)
    with pytest.raises(ArgumentError, match="workers must be a whole number of at least 1, got 0"):
        Gamma().schedule(0, 1, 0)
    with pytest.raises(ArgumentError, match="stop must be a whole number of at least 5, got 4"):
        Gamma().durations(1, 5, 4, 0)
