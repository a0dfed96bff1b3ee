"""Rows are kept as they came, in memory that grows by plain numbers only."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import pandas as pd
import pytest
import torch

from unstale.flat import Layout
from unstale.measure import Outcome, Receipt
from unstale.record import HISTORY_COLUMNS
from unstale.recorder import Recorder
from unstale.tasks import Evaluation
from unstale.tickets import Start, Ticket

LAYOUT = Layout.of_vector(1, (), 0.0)


def ticket(number: int, start: Start) -> Ticket:
    return Ticket(number, "", 2, 7, number, number // 2, torch.zeros(1), {}, LAYOUT, start)


def row(number: int, outcome: Outcome = "applied", **told: Any) -> tuple[float, Ticket, float, Receipt]:
    start = Start(3, (), True) if number % 2 else Start()
    return 0.1 * number, ticket(number, start), 1 / 3, Receipt(outcome, 2, number, **told)


def filled() -> tuple[Recorder, list[dict[str, Any]]]:
    rows: list[tuple[Outcome, dict[str, Any]]] = [
        ("applied", {"delay": 2**40, "gap": 0.1, "penalty": math.inf, "lr": 1e-300, "extreme": 4}),
        ("held", {"delay": 0, "normalised_gap": -0.0, "cancelled": (1, 2)}),
        ("rejected", {"delay": 3, "finite": False, "lr": 0.5}),
        ("dropped", {"delay": 1}),
        ("late", {}),
        ("spent", {}),
    ]
    recorder = Recorder()
    told = [recorder.push(*row(number, outcome, **about)) for number, (outcome, about) in enumerate(rows)]
    recorder.evaluation(0.5, 1.5, Evaluation(math.nan, 97.0))
    return recorder, told


def test_the_history_is_what_callbacks_were_told() -> None:
    recorder, told = filled()
    history = recorder.history()
    assert {name: str(kind) for name, kind in history.dtypes.items()} == HISTORY_COLUMNS
    wanted = pd.DataFrame(
        {name: pd.Series([r[name] for r in told], dtype=kind) for name, kind in HISTORY_COLUMNS.items()}
    )
    pd.testing.assert_frame_equal(history, wanted, check_exact=True)
    assert recorder.cancelled == 2
    assert list(history["delay"]) == [2**40, 0, 3, 1, -1, -1]
    assert list(history["loss"].fillna(-1)) == [1 / 3] * 4 + [-1, -1]


def test_a_recorder_goes_on_from_its_state() -> None:
    recorder, _ = filled()
    again = Recorder()
    again.load_state_dict(recorder.state_dict())
    for each in (recorder, again):
        each.push(*row(6, delay=1))
    pd.testing.assert_frame_equal(again.history(), recorder.history(), check_exact=True)
    pd.testing.assert_frame_equal(again.evaluations(), recorder.evaluations(), check_exact=True)
    assert (again.pushes, again.cancelled) == (7, 2)
    empty = Recorder()
    empty.load_state_dict(Recorder().state_dict())
    assert len(empty.history()) == 0


def test_a_row_that_was_cut_short_is_left_out() -> None:
    recorder, _ = filled()
    with pytest.raises(TypeError):
        recorder.push(*row(6, delay="soon"))
    assert len(recorder.history()) == recorder.pushes == 6


def test_a_push_takes_about_a_hundred_bytes() -> None:
    """Boxed numbers in lists take several times that."""
    recorder = Recorder()
    arguments = row(5, delay=300, gap=0.25, penalty=1.5, lr=0.1)
    tracemalloc.start()
    for _ in range(5000):
        recorder.push(*arguments)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown / 5000 < 130
