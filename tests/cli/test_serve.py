"""``unstale serve``: what it refuses, and a line of what it says. What it does is in tests/live/test_connect.py."""

from __future__ import annotations

import importlib
import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from tests.cli.run import Command


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--epochs", "2"], "batches_per_epoch must be given with epochs, got epochs=2 alone"),
        (["--decay", "steps"], "lr must be a number where epochs is not given"),
        (["--method", "dana_gaa"], "unknown method 'dana_gaa'; did you mean dana_ga"),
        (["--address", "tcp://head"], "address must be the path of a socket on this machine, or ray://NAME"),
        (["--address", "ray://head:1"], "address must be ray:// and a name of letters, digits, - and _"),
        (["--workers", "0"], "workers must be a whole number of at least 1"),
    ],
)
def test_wrong_use(options: list[str], says: str, unstale_command: Command) -> None:
    said = unstale_command("serve", *options)
    assert said.code == 2
    assert said.err.startswith(f"error: {says}")
    assert len(said.err.splitlines()) == 1


def test_a_folder_with_results_is_left_alone(unstale_command: Command, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    said = unstale_command("serve", "--out", tmp_path)
    assert said.code == 2
    assert "holds a run that did not end already" in said.err


def test_a_line_now_and_then_says_how_it_goes_and_none_is_of_a_push_that_came_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("unstale.cli.serve")  # the package has a function of that name
    monkeypatch.setattr(module, "_EVERY", 0.0)
    file = io.StringIO()
    telling = module._Telling(Console(file=file, width=80))
    row = {"progress": 0.5, "outcome": "applied", "loss": 1.5, "delay": 2}
    telling.on_push({**row, "push": 7})
    telling.on_push({**row, "push": 8, "outcome": "late", "loss": math.nan, "delay": -1})
    telling.on_push({**row, "push": 9, "outcome": "rejected", "loss": math.nan})
    first, second = file.getvalue().splitlines()
    assert first.startswith("epoch 0.50  loss 1.5  delay 2  ")
    assert second.startswith("epoch 0.50  loss nan  delay 2  ")
