"""``unstale train --engine processes``: what is said, what is kept, and how it ends."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import unstale
from tests.cli.run import SMALL, Command
from tests.engines.problems import blobs
from unstale.cli.members import print_members
from unstale.engines.live.nursery import nursery
from unstale.events import EventLog, read_events
from unstale.experiments.request import Request, keep_request
from unstale.schedules import Recipe

HEAD = ["worker", "pushes", "delay", "seconds", "restarts", "dropped", "late", "state"]
LONG = ("quadratic", "--engine", "processes", "-n", "2", "--epochs", "100000")


def test_a_real_run_is_saved_and_shown(unstale_command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    real = ("--engine", "processes", "--threads", "1", "--max-restarts", "1")
    said = unstale_command("train", "digits", "-m", "sync", "-n", "2", *real, "--out", folder, *SMALL)
    assert said.code == 0, said.err
    shown = unstale_command("show", folder)
    for told in (said.out, shown.out):
        lines = told.splitlines()
        assert lines[1].split() == HEAD
        assert [line.split()[0] for line in lines[2:5]] == ["0", "1", "all"]
        assert lines[4].split()[1] == "4"
        assert max(map(len, lines[1:5])) <= 80
    assert {path.name for path in folder.iterdir()} >= {"events", "timeline.json", "run.png", "delays.png"}
    run = unstale.Run.load(folder)
    assert run.config["engine"] == "processes"
    assert run.config["clock"] == {"type": "Wall"}
    assert run.summary()["time"] == run.history["time"].max()
    assert run.events is not None
    assert len(run.events) == len(read_events(folder / "events"))
    assert len(json.loads(unstale_command("show", folder, "--json").out)["members"]) == 2
    assert unstale_command("train", "digits", "--out", folder).code == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "thread"], "--engine must be one of"),
        (["--threads", "2"], "--threads is for real workers, but --engine is 'simulate'; leave it out"),
        (["--max-restarts", "2"], "--max-restarts is for real workers"),
        (
            ["--engine", "processes", "--clock-option", "cv=0.1"],
            "--clock-option is for simulated workers, but --engine is",
        ),
        (["--engine", "processes", "--strategy", "auto"], "--strategy is for simulated workers"),
        (["--engine", "processes", "--threads", "0"], "threads must be"),
        (["--engine", "processes", "--max-restarts", "-1"], "max_restarts must be"),
    ],
)
def test_wrong_use(unstale_command: Command, tmp_path: Path, options: list[str], message: str) -> None:
    said = unstale_command("train", "digits", "--out", tmp_path / "run", *options)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_events_of_a_run_that_did_not_end_are_not_mixed_with_others(unstale_command: Command, tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    said = unstale_command("train", "digits", "--engine", "processes", "--out", tmp_path)
    assert said.code == 2
    assert f"{tmp_path} holds a run that did not end already; choose another folder" in said.err


class Then(unstale.Callback):
    """Does something after the fifth push."""

    def __init__(self, what: Callable[[], None]) -> None:
        self.what = what

    def on_push(self, row: Mapping[str, Any]) -> None:
        if row["push"] == 5:
            self.what()


def workers() -> list[int]:
    """Children of this process's nursery."""
    children = Path(f"/proc/{nursery().process.pid}/task/{nursery().process.pid}/children")
    return [int(child) for child in children.read_text().split()]


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(
    unstale_command: Command, tmp_path: Path
) -> None:
    """Its events had been written already, but what they led to is gone."""
    settings = {"workers": 2, "seed": 0, "lr": Recipe(lr=0.1), "epochs": 1}
    keep_request(tmp_path, Request(task="quadratic", method="ga", engine="processes", settings=settings))
    log = EventLog(tmp_path / "events")
    log.add(0.5, "join", worker=7)
    log.write()
    said = unstale_command("train", "--resume", tmp_path)
    assert said.code == 0, said.err
    run = unstale.Run.load(tmp_path)
    assert run.status == "finished"
    assert run.events is not None
    assert set(run.events["worker"]) == {0, 1}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_order(
    unstale_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    monkeypatch.setattr("unstale.progress.ProgressBar", lambda: Then(lambda: os.kill(os.getpid(), number)))
    said = unstale_command("train", *LONG, "--out", tmp_path / "run")
    assert said.code == code, said.err
    run = unstale.Run.load(tmp_path / "run")
    assert run.status == "interrupted"
    assert run.events is not None
    assert run.events["kind"].isin(["push", "exchange"]).sum() == len(run.history) > 5
    folder = tmp_path / "run"
    kept = f"{len(run.history):,} pushes are saved in {folder}; go on with: unstale train --resume {folder}"
    assert said.err == f"interrupted: {kept}\n"
    assert "worker" in unstale_command("show", tmp_path / "run").out
    assert workers() == []


def test_when_nobody_is_left_it_says_so(
    unstale_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def kill_all() -> None:
        for worker in workers():
            os.kill(worker, signal.SIGKILL)

    monkeypatch.setattr("unstale.progress.ProgressBar", lambda: Then(kill_all))
    said = unstale_command("train", *LONG, "--max-restarts", "0", "--out", tmp_path / "run")
    assert said.code == 1
    run = unstale.Run.load(tmp_path / "run")
    assert (run.status, [member["state"] for member in run.members]) == ("failed", ["gone", "gone"])
    saved, last = said.err.splitlines()
    assert saved.startswith(f"{len(run.history):,} pushes are saved in {tmp_path / 'run'}; go on with")
    assert last.startswith(f"error: all workers are gone after {len(run.history)} pushes, ")
    assert "worker 0, 1: its process was killed by SIGKILL" in last


def test_a_traceback_is_told_once_and_in_full(
    unstale_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, task = os.getpid(), blobs()
    sound = task.loss

    def broken(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if os.getpid() != here:
            raise ZeroDivisionError("nothing to divide by")
        return sound(output, target)

    monkeypatch.setattr(task, "loss", broken)
    monkeypatch.setattr("unstale.tasks.get", lambda name, **_: task)
    monkeypatch.setattr("unstale.experiments.recipe", lambda *_: {"lr": unstale.Recipe(0.1)})
    real = ("--engine", "processes", "-n", "2", "--max-restarts", "0")
    said = unstale_command("train", "digits", *real, "--out", tmp_path / "run")
    assert said.code == 1
    lines = said.err.splitlines()
    assert lines[-1] == (
        "error: all workers are gone after 0 pushes, and none may be started again (max_restarts=0); "
        "worker 0, 1: ZeroDivisionError: nothing to divide by"
    )
    assert sum(line.startswith("worker 0: ZeroDivisionError") for line in lines) == 1  # when it happened
    assert said.err.count("Traceback (most recent call last)") == 1  # at the end
    assert "in broken" in said.err
    saved = json.loads((tmp_path / "run" / "config.json").read_text())["run"]["members"]
    assert all("in broken" in member["failures"][-1] for member in saved)
    assert "worker 1 was lost: ZeroDivisionError" in unstale_command("show", tmp_path / "run").out


def member(worker: int, **changes: object) -> dict[str, object]:
    usual: dict[str, object] = {"worker": worker, "state": "idle", "pushes": 1_000_000, "accepted": 10}
    usual |= {"mean_delay": 511.2, "mean_seconds": 0.00123456, "restarts": 2, "dropped": 3_000, "late": 12_345}
    return {**usual, "failures": [], **changes}


def test_the_table_fits_and_many_workers_are_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    trace = "Traceback (most recent call last):\n  File …\nValueError: no\n"
    members = [member(n, failures=[trace] if n < 10 else [], state="starting") for n in range(512)]
    print_members(members, {"quarantined": [3, 17], "rejected": 2_000, "cancelled": 5})
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert "1,000,000" in told
    assert "512,000,000" in told
    assert "and 480 workers more" in told
    assert told.count("was lost: ValueError: no") == 8
    assert "and 2 workers more were lost" in told
    assert "batches given up after three failures: 3, 17" in told
    assert "dropped because they held NaN or Inf: 2,000" in told
    assert "given up while they were computed: 5" in told
