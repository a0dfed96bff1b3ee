"""``unstale serve``: what it refuses. What it does is in tests/live/test_connect.py."""

from __future__ import annotations

from pathlib import Path

import pytest

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
