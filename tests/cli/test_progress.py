from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from rich.console import Console

import unstale
from tests.engines.problems import blobs
from unstale.clocks import Gamma
from unstale.engines import Plan
from unstale.experiments import Failure, Trial
from unstale.progress import ProgressBar, RunsBar
from unstale.progress_lines import worker_lines


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


def stats(*workers: dict[str, object]) -> dict[str, object]:
    usual = {"state": "busy", "pushes": 3, "accepted": 3, "mean_delay": 1.5, "mean_seconds": 0.02, "restarts": 0}
    return {"workers": [{"worker": n, **usual, **worker} for n, worker in enumerate(workers)]}


def row(**changes: object) -> dict[str, object]:
    return {"progress": 0.5, "outcome": "applied", "loss": 1.0, "delay": 2, "gap": 1e-3, **changes}


def begun(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> tuple[ProgressBar, io.StringIO]:
    for name in ("_EVERY", "_EVERY_IN_FILES"):
        monkeypatch.setattr(f"unstale.progress.{name}", 0.0)
    console, file = screen(terminal=terminal)
    bar = ProgressBar(console)
    bar.on_start(Plan(task=unstale.tasks.quadratic(), method=unstale.methods.get("asgd"), workers=2))
    return bar, file


def test_nothing_is_drawn_before_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, file = begun(monkeypatch, terminal=True)
    monkeypatch.setattr(bar, "_every", 3600.0)
    for _ in range(1000):
        bar.on_push(row())
    assert file.getvalue() == ""


def test_means_are_of_the_pushes_that_counted_and_a_score_is_told_once_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bar, file = begun(monkeypatch, terminal=False)
    monkeypatch.setattr(bar, "_every", 3600.0)
    bar.on_push(row(loss=2.0))
    bar.on_push(row(outcome="late", loss=math.nan, delay=-1, gap=math.nan))
    monkeypatch.setattr(bar, "_every", 0.0)
    bar.on_push(row(loss=1.0, delay=3))
    assert "  loss 1.5  delay 2.5  gap 1.0e-03  " in file.getvalue()
    bar.on_push(row(outcome="dropped", loss=9.0, delay=8, gap=math.nan))
    assert "  loss 9  delay 8.0  gap nan  " in file.getvalue().splitlines()[-1], "the loss is what it is"
    bar.on_push(row(outcome="rejected", loss=math.nan, delay=1, gap=math.nan))
    assert "  loss nan  " in file.getvalue().splitlines()[-1]
    bar.on_evaluation({"score": 0.25})
    bar.on_push(row())
    assert "  loss 1  distance 0.25  delay 2.0  " in file.getvalue().splitlines()[-1]


def test_of_real_workers_it_tells_each_ones_delay_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, file = begun(monkeypatch, terminal=True)
    bar.on_push(row())
    bar.on_stats(stats({}, {"state": "starting", "restarts": 1, "accepted": 0, "mean_seconds": 0.0}, {"state": "down"}))
    said = file.getvalue()
    assert "  2/3 workers  " in said
    assert "  worker   0        3 pushes  delay   1.5    50.0/s\n" in said
    assert "  worker   1        3 pushes  delay     –       –/s  starting  1 restarts\n" in said
    bar.on_incident(2, "Traceback\n  File x\nValueError: no good\n")
    after = file.getvalue()[len(said) :]
    assert "worker 2: ValueError: no good\n" in after
    assert after.index("ValueError") < after.index("workers  ")  # above the bar, which is drawn again
    bar.on_end(unstale.train(unstale.tasks.quadratic(), "asgd", 2, epochs=0.1))
    assert file.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_many_workers_do_not_fill_the_screen() -> None:
    lines = worker_lines(stats(*[{}] * 512)["workers"], 60, 16)  # type: ignore[arg-type]
    assert len(lines) == 16
    assert lines[-1].plain == "  and 497 workers more"
    assert len(worker_lines(stats(*[{}] * 16)["workers"], 60, 16)) == 16  # type: ignore[arg-type]
    assert worker_lines(stats({})["workers"], 60, 0) == []  # type: ignore[arg-type]
    assert max(line.cell_len for line in worker_lines(stats({}, {"state": "starting"})["workers"], 30, 9)) == 30  # type: ignore[arg-type]


def test_in_a_file_an_incident_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    bar, file = begun(monkeypatch, terminal=False)
    bar.on_stats(stats({}, {"state": "gone"}))
    bar.on_incident(1, "its process was killed by SIGKILL")
    bar.on_push(row())
    first, second, third = file.getvalue().splitlines()
    assert second == "worker 1: its process was killed by SIGKILL"
    assert "  1/2 workers" in first
    assert "  1/2 workers" in third


def test_a_real_run_tells_how_it_goes() -> None:
    class Looking(unstale.Callback):
        seen: ClassVar[list[Mapping[str, Any]]] = []

        def on_stats(self, stats: Mapping[str, Any]) -> None:
            self.seen.append(stats)

    pace = Gamma(mean=0.05)
    unstale.train(blobs(), "asgd", 2, engine="processes", epochs=16, batch_size=8, callbacks=[Looking()], pace=pace)
    assert len(Looking.seen) >= 2
    assert [worker["worker"] for worker in Looking.seen[-1]["workers"]] == [0, 1]
    assert Looking.seen[-1]["pushes_per_second"] > 0
