"""Scripts that train, in processes of their own: signals, kill -9, and what is left behind afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.left import family, marked, nothing_runs_on, shared_names

HEAD = """
import os, signal, sys
import torch
from torch import nn
import unstale

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)

def loss(output, target):
    return nn.functional.cross_entropy(output, target)

class Watch(unstale.Callback):
    def on_push(self, row):
        if row["push"] == 8:
            print("eight", flush=True)
        if row["push"] == 8 and AT_EIGHT:
            os.kill(os.getpid(), AT_EIGHT)

AT_EIGHT = int(sys.argv[1])
x, y = torch.randn(64, 4), torch.arange(64) % 3
task = unstale.Task(Net, loss, (x, y), (x, y))
how = dict(workers=3, engine="processes", lr=0.01, batch_size=8, executor="blocks", callbacks=[Watch()])
"""
TRAINS = (
    HEAD
    + """
run = unstale.train(task, "dana_ga", epochs=4, **how)
print(run.status, len(run.history))
"""
)
ENDLESS = (
    HEAD
    + """
pace = unstale.clocks.Gamma(mean=float(sys.argv[2]), cv=0.01)
try:
    unstale.train(task, "dana_ga", epochs=10**5, pace=pace, patience=unstale.Patience(grace=30.0), **how)
except unstale.errors.Interrupted as end:
    print("interrupted", end.signal, len(end.run.history), flush=True)
    sys.exit(128 + end.signal)
"""
)


@contextmanager
def script(folder: Path, text: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A script that runs in a group of its own; nothing of it is there any more afterwards."""
    file = folder / "script.py"
    file.write_text(text)
    command = [sys.executable, str(file), *map(str, arguments)]
    before = shared_names()
    process = subprocess.Popen(
        command, cwd=folder, env=marked(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
    nothing_runs_on(folder, before)
    assert sorted(folder.iterdir()) == [file]


def test_a_script_needs_no_guard_and_its_task_travels(tmp_path: Path) -> None:
    with script(tmp_path, TRAINS, 0) as process:
        out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert out.split() == ["eight", "finished", "32"]
    assert not err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_order(number: int, tmp_path: Path) -> None:
    with script(tmp_path, ENDLESS, number, 0.05) as process:
        out, err = process.communicate(timeout=900)
    assert process.returncode == 128 + number, err
    assert out.split()[:3] == ["eight", "interrupted", str(int(number))]
    assert 9 <= int(out.split()[3]) < 9 + 100  # of an endless one; a loaded machine takes its time
    assert not err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_at_once_still_lets_gradients_arrive(number: int, tmp_path: Path) -> None:
    """Ctrl-C at a terminal; a batch system that ends a job."""
    with script(tmp_path, ENDLESS, 0, 0.4) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "eight\n"
        for pid in family(tmp_path):
            os.kill(pid, number)
        out, err = process.communicate(timeout=900)
    assert process.returncode == 128 + number, err
    assert int(out.split()[2]) >= 9 + 1


def test_two_signals_at_once_end_it_in_order(tmp_path: Path) -> None:
    with script(tmp_path, ENDLESS, 0, 1.0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "eight\n"
        process.send_signal(signal.SIGSTOP)  # so that both are there when it goes on
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=900)
    assert process.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM), err
    assert not err


@pytest.mark.parametrize("stopped", [False, True])
def test_nothing_outlives_a_killed_trainer(stopped: bool, tmp_path: Path) -> None:
    """Not even a worker that is stopped and can do nothing about it; `script` looks."""
    with script(tmp_path, ENDLESS, 0, 0.05) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "eight\n"
        others = [pid for pid in family(tmp_path) if pid != process.pid]
        assert len(others) == 1 + 3  # the nursery, and the workers
        for pid in others if stopped else []:
            os.kill(pid, signal.SIGSTOP)


def test_a_script_may_end_without_waiting_for_its_run(tmp_path: Path) -> None:
    large = "nn.Sequential(nn.Linear(4, 30000), nn.Linear(30000, 3))"  # so that its thread is at work in torch
    text = HEAD.replace("nn.Linear(4, 3)", large) + (
        "how.pop('engine')\nlive = unstale.launch(task, 'dana_ga', epochs=10**5, **how)\n"
        "while live.stats()['pushes'] < 8: pass\nprint('bye')\n"
    )
    with script(tmp_path, text, 0) as process:
        out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert "bye" in out
    assert not err
