"""The command line, in this process or as one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from unstale.cli import main

SMALL = ("--epochs", "0.2", "--batch-size", "64", "--task-option", "width=4")
ENVIRONMENT = {**os.environ, "COLUMNS": "80", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


class Command:
    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        monkeypatch.setenv("COLUMNS", "80")

    def __call__(self, *arguments: str | Path) -> Said:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = self._capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Said(code, said.out, said.err)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """A process with a process group of its own, as a terminal gives it."""
    return subprocess.Popen(
        [sys.executable, "-m", "unstale.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )


def killed(folder: Path, *arguments: str | Path) -> dict[str, int]:
    """Start it and kill it after its first run; answers what is finished in ``folder``."""
    process = start(*arguments)
    wait_for_runs(process, folder, 1)
    os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers have to notice
    process.communicate(timeout=300)
    assert_gone(process)
    return finished(folder)


def finished(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.glob("runs/*/config.json")}


def wait_for_runs(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while len(finished(folder)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def assert_gone(process: subprocess.Popen[str]) -> None:
    """Nobody of the process group is left."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("processes are left over")
