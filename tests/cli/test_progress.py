from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

import unstale
from unstale.experiments import Failure, Trial
from unstale.progress import ProgressBar, RunsBar


def screen(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=80, no_color=True, legacy_windows=False), file


def train(bar: ProgressBar) -> unstale.Run:
    task = unstale.tasks.digits(width=4)
    return unstale.train(task, "dana_ga", 3, epochs=2, batch_size=64, lr=0.05, callbacks=[bar])


def test_one_line_says_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unstale.progress._EVERY", 0.0)
    console, file = screen(terminal=True)
    run = train(ProgressBar(console))
    lines = file.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "").split("\r")
    assert len(lines) > 40
    assert all(len(line.strip("\n")) <= 79 for line in lines)
    for words in (" epoch 2.0/2 ", " loss ", f" accuracy {run.score:.4g} ", " delay ", " gap ", "/s"):
        assert words in lines[-2]
    assert lines[-1] == "\n"


def test_in_a_file_there_is_no_more_than_the_last_line() -> None:
    console, file = screen(terminal=False)
    train(ProgressBar(console))
    assert file.getvalue().count("\n") == 1
    assert "\r" not in file.getvalue()


def test_looking_on_costs_little() -> None:
    console, _ = screen(terminal=True)
    bar = ProgressBar(console)
    train(bar)
    row = {"progress": 1.0, "loss": 1.0, "delay": 3, "gap": 1e-3}
    started = time.perf_counter()
    for _ in range(10_000):
        bar.on_push(row)
    assert (time.perf_counter() - started) / 10_000 < 2e-5  # 2 % of the fastest gradient, a millisecond


def test_train_shows_it_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    unstale.train(unstale.tasks.quadratic(), workers=2, epochs=1, progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert " epoch 1.0/1 " in said.err


def test_the_bar_over_runs_tells_failures_at_once() -> None:
    console, file = screen(terminal=True)
    trial = Trial("ga", 4, 0)
    with RunsBar(total=3, done=1, jobs=2, console=console) as bar:
        bar.on_start(trial)
        bar.on_done(trial, Failure(trial, "no reason"))
    said = file.getvalue()
    assert "3 runs, 1 of them finished already; 2 at a time" in said
    assert "failed: ga, N = 4, seed 0: no reason" in said
    assert "2/3" in said
