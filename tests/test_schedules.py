"""Learning rates at known places, and every bad argument."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unstale import schedules
from unstale.describe import describe
from unstale.errors import ArgumentError
from unstale.schedules import Constant, Cosine, Recipe, Schedule, Steps, Warmup, as_schedule, checked

NOT_NUMBERS = [float("nan"), float("inf"), -float("inf"), True, None, "1", 1j]
TOO_LARGE = 10**400
rates = st.floats(0, 100)
progresses = st.floats(0, 300)


def test_constant() -> None:
    assert Constant(0.1)(0.0) == Constant(0.1)(1e9) == 0.1
    assert Constant(0)(3.0) == 0.0


@pytest.mark.parametrize(
    ("progress", "lr"), [(0, 0.1), (79.999, 0.1), (80, 0.01), (119.999, 0.01), (120, 0.001), (1000, 0.001)]
)
def test_steps_of_the_paper(progress: float, lr: float) -> None:
    assert Steps(0.1)(progress) == pytest.approx(lr, rel=1e-12)


def test_steps_without_steps() -> None:
    assert Steps(0.1, at=())(50.0) == 0.1


@pytest.mark.parametrize(
    ("progress", "lr"), [(0, 1.1), (25, 0.1 + (1 + math.sqrt(0.5)) / 2), (50, 0.6), (100, 0.1), (101, 0.1)]
)
def test_cosine(progress: float, lr: float) -> None:
    assert Cosine(1.1, epochs=100, floor=0.1)(progress) == pytest.approx(lr, rel=1e-12)


def test_cosine_ends_exactly_at_its_floor() -> None:
    assert Cosine(2.5e-4, epochs=7)(7.0) == 0.0
    assert Cosine(0.1, epochs=7, floor=0.01)(8.0) == 0.01


@pytest.mark.parametrize("floor", [0.0, 0.02])
def test_cosine_is_torchs(floor: float) -> None:
    """torch.optim.lr_scheduler.CosineAnnealingLR over all batches, 7 an epoch."""
    weights = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([weights], lr=0.1)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=70, eta_min=floor)
    for batch in range(71):
        assert Cosine(0.1, epochs=10, floor=floor)(batch / 7) == pytest.approx(theirs.get_last_lr()[0], abs=1e-15)
        optimiser.step()
        theirs.step()


def test_a_recipe_warms_up_along_its_cosine() -> None:
    """The factor of the warm-up times the cosine, which runs from the start of the training to its end."""
    schedule = Recipe(0.1, warmup=0.2, decay="cosine").build(workers=4, epochs=10)
    theirs = [0.05 * (1 + math.cos(math.pi * share)) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    factors = [1 / 4, 1 / 4 + 3 / 4 / 2, 1.0, 1.0, 1.0]
    found = [schedule(progress) for progress in (0.0, 1.0, 2.0, 6.0, 10.0)]
    assert found == pytest.approx([f * rate for f, rate in zip(factors, theirs, strict=True)], rel=1e-12)
    assert found[-1] == 0.0


@pytest.mark.parametrize(
    ("batches", "lr"), [(0, 0.1 / 8), (391 * 2.5, 0.1 * (1 / 8 + 7 / 16)), (391 * 5, 0.1), (391 * 6, 0.1)]
)
def test_warmup_of_the_paper(batches: float, lr: float) -> None:
    """η·(1/N + (1 − 1/N)·min(1, b/K)), K the batches of 5 epochs, here 391 an epoch and N = 8."""
    assert Warmup(Constant(0.1), epochs=5, start=1 / 8)(batches / 391) == pytest.approx(lr, rel=1e-12)


def test_no_warmup() -> None:
    assert Warmup(Constant(0.1), epochs=0, start=0.0)(0.0) == 0.1


def test_one_worker_needs_no_warmup() -> None:
    schedule = Warmup(Steps(0.1), epochs=5, start=1.0)
    assert [schedule(p) for p in (0.0, 2.0, 5.0, 90.0)] == [Steps(0.1)(p) for p in (0.0, 2.0, 5.0, 90.0)]


@given(lr=rates, epochs=st.floats(0, 50), start=st.floats(0, 1), one=progresses, other=progresses)
def test_warmup_rises_to_the_schedule(lr: float, epochs: float, start: float, one: float, other: float) -> None:
    schedule = Warmup(Constant(lr), epochs, start)
    low, high = sorted((one, other))
    slack = 1e-12 * lr
    assert schedule(low) <= schedule(high) + slack
    assert lr * start - slack <= schedule(low) <= lr + slack
    assert schedule(epochs) == lr


@given(lr=rates, one=progresses, other=progresses, decay=st.sampled_from(["steps", "cosine", "constant"]))
def test_decays_never_rise(lr: float, one: float, other: float, decay: schedules.Decay) -> None:
    schedule = Recipe(lr, decay=decay).build(workers=8, epochs=160)
    low, high = sorted((one, other))
    assert 0 <= schedule(high) <= schedule(low) <= lr


def test_recipe_is_in_fractions_of_the_training() -> None:
    assert Recipe().build(workers=32, epochs=160) == Steps(0.1, at=(80.0, 120.0))
    assert Recipe(0.2, decay="cosine").build(workers=1, epochs=7) == Cosine(0.2, epochs=7)
    assert Recipe(0.2, decay="constant").build(workers=1, epochs=7) == Constant(0.2)
    warm = Recipe(warmup=0.25).build(workers=4, epochs=20)
    assert warm == Warmup(Steps(0.1, at=(10.0, 15.0)), epochs=5.0, start=0.25)


def test_recipe_steps_at_whole_epochs() -> None:
    """0.7 * 10 is 7.000000000000001: the step still comes with the first batch of epoch 7."""
    assert Recipe(1.0, at=(0.7,)).build(workers=1, epochs=10)(7.0) == pytest.approx(0.1)


def test_as_schedule() -> None:
    assert as_schedule(0, 4, 10) == Constant(0.0)
    assert as_schedule(np.float32(0.5), 4, 10) == Constant(0.5)  # type: ignore[arg-type]
    assert as_schedule(Recipe(0.3), 4, 10) == Recipe(0.3).build(4, 10)
    mine: Schedule = lambda progress: 1.0 / (1.0 + progress)  # noqa: E731
    assert as_schedule(mine, 4, 10) is mine


@pytest.mark.parametrize("lr", [-0.1, TOO_LARGE, *NOT_NUMBERS])
def test_as_schedule_refuses(lr: float) -> None:
    with pytest.raises(ArgumentError, match=r"^lr must be a finite number of at least 0, got .*; \S"):
        as_schedule(lr, 4, 10)


def test_checked() -> None:
    assert checked(0, 1.0) == 0.0
    assert type(checked(np.float32(0.5), 1.0)) is float
    for bad in [-1e-9, TOO_LARGE, *NOT_NUMBERS]:
        with pytest.raises(ArgumentError, match=r"^lr must be .*, got .* at progress 2\.5 epochs; \S"):
            checked(bad, 2.5)


@pytest.mark.parametrize(
    ("build", "field", "bad"),
    [
        (Constant, "lr", [-1, TOO_LARGE]),
        (Steps, "lr", [-1]),
        (lambda factor: Steps(0.1, factor=factor), "factor", [-0.1]),
        (lambda at: Steps(0.1, at=at), "at", [(0.0,), (2.0, 1.0), (1.0, 1.0), (float("nan"),), (True,), [None], 80.0]),
        (lambda lr: Cosine(lr, 10), "lr", [-1]),
        (lambda epochs: Cosine(0.1, epochs), "epochs", [0, -1]),
        (lambda floor: Cosine(0.1, 10, floor), "floor", [-0.1, 0.2]),
        (lambda schedule: Warmup(schedule, 5, 0.5), "schedule", [0.1]),
        (lambda epochs: Warmup(Constant(0.1), epochs, 0.5), "epochs", [-1]),
        (lambda start: Warmup(Constant(0.1), 5, start), "start", [-0.1, 1.1]),
        (Recipe, "lr", [-1]),
        (lambda warmup: Recipe(warmup=warmup), "warmup", [-0.1, 1.1]),
        (lambda decay: Recipe(decay=decay), "decay", ["linear", ""]),
        (lambda at: Recipe(at=at), "at", [(0.0,), (1.1,), (0.75, 0.5), 0.5]),
        (lambda factor: Recipe(factor=factor), "factor", [-0.1]),
        (lambda workers: Recipe().build(workers, 10), "workers", [0, -1, 1.5]),
        (lambda epochs: Recipe().build(1, epochs), "epochs", [0, -1]),
    ],
)
def test_bad_arguments(build: Callable[[object], object], field: str, bad: list[object]) -> None:
    for value in [*bad, *NOT_NUMBERS]:
        with pytest.raises(ArgumentError, match=rf"^{field} must be .*, got .*; \S"):
            build(value)


def test_schedules_are_plain_data() -> None:
    schedule = Recipe(warmup=0.5, at=[0.5]).build(2, 10)  # type: ignore[arg-type]
    assert describe(schedule) == {
        "type": "Warmup",
        "schedule": {"type": "Steps", "lr": 0.1, "at": [5.0], "factor": 0.1},
        "epochs": 5.0,
        "start": 0.5,
    }


def test_public_names_exist() -> None:
    assert all(hasattr(schedules, name) for name in schedules.__all__)
