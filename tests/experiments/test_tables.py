from __future__ import annotations

import math

import pytest

from tests.experiments import frames
from unstale.experiments import tables
from unstale.experiments.tables import Cell


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(95.61, 0.44, 3), "95.6±0.4"),
        (Cell(95.61, math.nan, 1), "95.6"),
        (Cell(10.0, 0.0, 3, diverged=3), "10.0±0.0†"),
        (Cell(42.2, 45.6, 2, diverged=1), "42.2±46†1"),
        (Cell(math.nan, math.nan, 2, diverged=2), "NaN†"),
        (Cell(0.01234, 0.0021, 3), "0.0123±0.002"),
        (Cell(1.5e10, 2.5e9, 3), "1.5e+10±2.5e+09"),
        (Cell(), "–"),
    ],
)
def test_cells_are_short(cell: Cell, text: str) -> None:
    assert cell.text == text


def test_the_best_of_each_row_is_bold_and_the_baseline_in_the_caption() -> None:
    scores = frames.of_table(frames.TABLE_4, 0.2)
    outline = frames.make_outline(scores)
    text = tables.markdown(outline, frames.make_results(outline, scores), ["Made by hand."])
    lines = text.splitlines()
    assert lines[0] == "| N | asgd | nag_asgd | sa | ga | dana | dana_sa | dana_ga |"
    assert lines[2].count("**") == 2
    assert "**92.1±0.2** | 91.8±0.2 | 92.1±0.2 |" in lines[2]
    assert "| 12 | 90.0±0.2 | 10.0±0.2†2 |" in text
    assert "accuracy (%), mean±standard deviation over 3 seeds; baseline (nag_asgd, one worker): 92.4±0.0." in text
    assert "† diverged" in text
    assert "in k of the seeds" in text
    assert text.endswith("Made by hand.\n")


def test_one_seed_has_no_deviation_and_missing_runs_are_told() -> None:
    scores = {("asgd", 4): (90.0, 0.0), ("ga", 4): (91.0, 0.0), ("asgd", 8): (80.0, 0.0)}
    outline = frames.make_outline(scores, seeds=1)
    text = tables.markdown(outline, frames.make_results(outline, scores))
    assert "| 4 | 90.0 | **91.0** |" in text
    assert "| 8 | **80.0** | – |" in text
    assert "runs are missing" in text


def test_where_lower_is_better_the_lowest_is_best() -> None:
    scores = {("asgd", 4): (2.0, 0.1), ("ga", 4): (1.0, 0.1), ("sa", 4): (math.nan, 0.0)}
    outline = frames.make_outline(scores, higher_is_better=False, score_name="loss", chance=None)
    cells = tables.cells(outline, frames.make_results(outline, scores))
    assert [cells[4, label].best for label in ("asgd", "ga", "sa")] == [False, True, False]
