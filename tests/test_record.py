from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
import torch

import unstale
from unstale.record import EVALUATION_COLUMNS, HISTORY_COLUMNS


@pytest.fixture(scope="module")
def run() -> unstale.Run:
    return unstale.train(unstale.tasks.digits(width=4), "dana_ga", 3, epochs=1, eval_every=0.5, batch_size=64, lr=0.05)


def changed(run: unstale.Run, **fields: Any) -> unstale.Run:
    import dataclasses

    return dataclasses.replace(run, **fields)


def test_history_has_a_typed_row_for_each_push(run: unstale.Run) -> None:
    assert {name: str(kind) for name, kind in run.history.dtypes.items()} == HISTORY_COLUMNS
    assert {name: str(kind) for name, kind in run.evaluations.dtypes.items()} == EVALUATION_COLUMNS
    assert list(run.history["push"]) == list(range(23))
    assert run.history["time"].is_monotonic_increasing
    assert run.history["progress"].to_numpy() == pytest.approx([k / 23 for k in range(23)])


def test_evaluations_are_before_between_and_after(run: unstale.Run) -> None:
    assert run.evaluations["progress"].to_numpy() == pytest.approx([0, 12 / 23, 1])
    assert list(run.evaluations["pushes"]) == [0, 12, 23]
    assert run.score == run.evaluations["score"].iloc[-1]


def test_the_summary_is_over_gradients_that_were_used(run: unstale.Run) -> None:
    history = run.history.assign(outcome=["dropped"] * 3 + ["applied"] * 20)
    summary = changed(run, history=history).summary()
    assert (summary["pushes"], summary["wasted"]) == (23, 3)
    assert summary["mean_delay"] == history["delay"].iloc[3:].mean()
    assert summary["simulated_time"] == history["time"].max()


def test_the_summary_tells_what_became_of_every_gradient(run: unstale.Run) -> None:
    outcomes = ["dropped", "rejected", "rejected", "late", "spent"] + ["applied"] * 10 + ["held"] * 8
    members = ({"worker": 0, "restarts": 2}, {"worker": 1, "restarts": 1})
    told = changed(run, history=run.history.assign(outcome=outcomes), cancelled=4, members=members).summary()
    assert [told[name] for name in ("dropped", "rejected", "late", "cancelled", "restarts")] == [1, 2, 2, 4, 3]
    assert told["wasted"] == 1 + 2 + 2 + 4
    assert [run.summary()[name] for name in ("wasted", "restarts", "cancelled", "late")] == [0] * 4


@pytest.mark.parametrize(
    ("score", "chance", "diverged"),
    [(50.0, 10.0, False), (10.0, 10.0, True), (9.0, None, False), (math.nan, None, True), (math.inf, None, True)],
)
def test_what_counts_as_diverged(run: unstale.Run, score: float, chance: float | None, diverged: bool) -> None:
    task = {**run.config["task"], "chance": chance}  # type: ignore[dict-item]
    evaluations = run.evaluations.assign(score=score)
    assert changed(run, config={**run.config, "task": task}, evaluations=evaluations).diverged is diverged


def test_parameters_that_are_not_finite_are_diverged(run: unstale.Run) -> None:
    params = {**run.params, "x": torch.tensor([1.0, math.nan])}
    assert not run.diverged
    assert changed(run, params=params).diverged


def test_a_run_without_pushes_has_a_summary(run: unstale.Run) -> None:
    empty = changed(run, history=run.history.iloc[:0], evaluations=run.evaluations.iloc[:0])
    summary = empty.summary()
    assert summary["pushes"] == summary["simulated_time"] == 0
    assert [str(summary[name]) for name in ("score", "mean_delay")] == ["nan", "nan"]


def test_parameters_go_back_into_a_module(run: unstale.Run) -> None:
    task = unstale.tasks.digits(width=4)
    assert task.evaluate(run.load_into(task.build(5))).score == run.score


def test_same_configuration_same_run(run: unstale.Run) -> None:
    again = unstale.train(unstale.tasks.digits(width=4), "dana_ga", 3, epochs=1, eval_every=0.5, batch_size=64, lr=0.05)
    pd.testing.assert_frame_equal(again.history, run.history, check_exact=True)
    assert again.config == run.config
    assert all(torch.equal(again.params[name], value) for name, value in run.params.items())
