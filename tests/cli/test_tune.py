from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.run import Command, assert_gone, start, wait_for_runs

TINY = ("quadratic", "--epochs", "1", "--workers", "2", "--jobs", "1")


def test_it_says_what_is_best_and_show_says_it_again(unstale_command: Command, tmp_path: Path) -> None:
    space = ("--space", "momentum=0,0.5", "--space", "lr=0.1,1e30")
    said = unstale_command("tune", *TINY, "--method", "ga", *space, "--out", tmp_path)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert lines[0] == "quadratic / point: ga, N = 2; trials: 4 finished"
    assert lines[1].startswith("best: momentum = ")
    assert "the best lr is at an end of what was tried" in said.out
    assert "4 trials; 1 at a time" in said.err
    assert unstale_command("show", tmp_path).out == said.out
    told = json.loads(unstale_command("show", tmp_path, "--json").out)
    assert told["best_params"]["lr"] == 0.1
    assert len(told["trials"]) == 4
    assert json.loads((tmp_path / "best.json").read_text())["params"] == told["best_params"]
    again = unstale_command("tune", *TINY, "--method", "ga", *space, "--out", tmp_path, "--quiet")
    assert (again.code, again.out, again.err) == (0, "", "")


def test_where_nothing_is_good_it_says_so(unstale_command: Command, tmp_path: Path) -> None:
    given = ("--space", "lr=1e30", "--epochs", "4", "--out", tmp_path)
    said = unstale_command("tune", *TINY, *given)
    assert said.code == 0
    assert "no trial has finished without diverging" in said.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "paper71"], "unknown grid 'paper71'; did you mean paper70?"),
        (["--space", "lr"], "--space must be NAME=VALUES"),
        (["--space", "lr=1", "--space", "lr=2"], "each name once"),
        (["--space", "lr=0..1"], "trials must be given"),
        (["--space", "lr=1..0", "--trials", "3"], "space of 'lr': a range must go"),
        (["--grid", "paper70", "--space", "lr=1"], "exclude each other"),
        (["--method", "asgd"], "'momentum' cannot be tuned here"),
        (["--method", "agsd"], "unknown method"),
        (["--jobs", "0"], "--jobs must be"),
        (["--seeds", "0"], "seeds must be"),
    ],
)
def test_wrong_use(unstale_command: Command, tmp_path: Path, arguments: list[str], message: str) -> None:
    said = unstale_command("tune", *TINY, "--out", tmp_path / "none", *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_without_optuna_it_says_how_to_install_it(
    unstale_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    said = unstale_command("tune", *TINY, "--out", tmp_path / "none")
    assert said.code == 2
    assert "pip install 'unstale[tune]'" in said.err


def test_interrupted_it_says_what_is_kept_and_how_to_continue(tmp_path: Path) -> None:
    process = start("tune", *TINY, "--epochs", "40", "--jobs", "2", "--out", tmp_path)
    wait_for_runs(process, tmp_path, 2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert_gone(process)
    assert " of 70 trials are kept in" in err
    assert "the same command continues" in err
    assert "Traceback" not in err
    assert out == ""
    assert (tmp_path / "trials.csv").exists()
