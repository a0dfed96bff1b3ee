"""What each method does to one weight, push by push, stays what it was."""

from __future__ import annotations

import json

import pytest

from tests.golden.histories import FOLDER, rendered
from unstale.methods import names


@pytest.mark.parametrize("name", names())
def test_history_is_golden(name: str) -> None:
    golden = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert rendered(name) == golden, "if this is meant, run: python -m tests.golden.histories"


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(names())


def test_plain_sgd_by_hand() -> None:
    """1 − 0.2 per push; each worker's next point is θ as its push left it."""
    rows = json.loads((FOLDER / "asgd.json").read_text(encoding="utf-8"))
    assert [row["theta"] for row in rows] == [0.8, 0.6, 0.4, 0.2, 0.0, -0.2]
    assert [row["point"] for row in rows] == [1.0, 1.0, 0.8, 0.6, 0.4, 0.2]
    assert [row["delay"] for row in rows] == [0, 1, 1, 1, 1, 1]


def test_dana_by_hand() -> None:
    """v₀ = 2, so θ = 1 − 0.2 and w = 0.8 − 0.1·0.9·2 = 0.62; then v₁ = 2, S = 4, and so on."""
    rows = json.loads((FOLDER / "dana.json").read_text(encoding="utf-8"))
    assert [row["point"] for row in rows[:4]] == [1.0, 1.0, 0.62, 0.24]
    assert [row["theta"] for row in rows[:3]] == [0.8, 0.6, pytest.approx(0.6 - 0.1 * 3.8)]
