from __future__ import annotations

import math
from importlib.resources import files

import pytest

from tests.experiments import frames
from unstale.errors import UnknownNameError
from unstale.experiments import paper


def test_the_papers_numbers_come_with_the_package() -> None:
    tables = paper.tables()
    assert (files("unstale.experiments.paper") / "tables.csv").is_file()
    assert len(tables) == 7 * (4 + 10 + 10 + 10)
    assert sorted(set(tables["table"])) == [3, 4, 5, 6]
    assert dict(zip(tables["table"], tables["baseline_accuracy"], strict=True)) == {
        3: 75.64,
        4: 92.43,
        5: 95.17,
        6: 76.72,
    }
    for label, mean in zip(frames.PAPER, frames.TABLE_4[16], strict=True):
        (cell,) = [c for c in paper.cells(4) if (c.method, c.workers) == (label, 16)]
        assert cell.mean == mean


def test_what_diverged_is_marked() -> None:
    lost = {(cell.method, cell.workers) for cell in paper.cells(4) if cell.diverged}
    assert lost == {("nag_asgd", n) for n in (12, 16, 20, 24, 28, 32, 40, 48)} | {("dana", 48)}
    assert sum(math.isnan(cell.mean) for cell in paper.cells(3)) == 6
    assert paper.evidence(3).samples["ga", 128].mean == 0.1


def test_nobody_can_change_them_for_others() -> None:
    mine = paper.tables()
    mine["test_accuracy_mean"] = 0.0
    assert paper.tables()["test_accuracy_mean"].max() > 95


def test_a_table_that_is_lost() -> None:
    with pytest.raises(UnknownNameError, match="unknown table of the paper '2'"):
        paper.table(2)
