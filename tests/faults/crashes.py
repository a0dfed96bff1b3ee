"""A run whose server is killed again and again, and goes on from its checkpoints: held against all laws each time."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import unstale
from tests.engines.problems import trained
from tests.faults.checker import check, check_sums
from tests.faults.inject import plan
from tests.faults.left import marked, nothing_runs_on, shared_names
from tests.faults.trainer import BATCHES, EVERY, KEEP, KEPT, RUN, Told
from unstale.checkpoint import latest, numbers
from unstale.engines import Plan
from unstale.engines.replay import repeat
from unstale.events import read_events_of
from unstale.recorder import Recorder

HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Kept:
    """What the newest checkpoint has acknowledged: rows of the history, and of the log."""

    history: pd.DataFrame
    events: pd.DataFrame

    def is_in(self, history: pd.DataFrame, events: pd.DataFrame) -> None:
        """To the bit."""
        pd.testing.assert_frame_equal(history[: len(self.history)], self.history, check_exact=True)
        pd.testing.assert_frame_equal(events[: len(self.events)], self.events, check_exact=True)


def crashes(kills: int, server_kills: int, told: Told) -> str:
    """A run with so many, at random; in a few words, what happened."""
    chance, folder = random.Random(told.seed), Path(told.folder)
    left = set(chance.sample(range(BATCHES * told.epochs * 9 // 10), kills))  # pushes at which a worker is killed
    kept: Kept | None = None
    torn = 0
    for life in range(server_kills + 1):
        if kept is None:
            shutil.rmtree(folder / KEPT, ignore_errors=True)  # it begins anew
        known = 0 if kept is None else len(kept.history)
        dies = None if life == server_kills else known + chance.randint(1, 2 * EVERY)
        step = chance.choice([0, chance.randint(1, 20)])
        lives = _lived(replace(told, kills=sorted(left), dies=dies, step=step, seed=told.seed + life))
        left -= lives["killed"]
        torn += _torn(folder / KEPT)
        if numbers(folder / KEPT):
            kept = _kept(folder / KEPT, plan(**told.settings), kept)
        assert max(lives["kept"], default=0) <= (0 if kept is None else len(kept.history)), "a checkpoint is gone"
    assert not left, f"no worker was killed at pushes {sorted(left)}"
    assert kept is not None
    run = _held_against_all(told, kept)
    return (
        f"{kills} kills of workers, {server_kills} of the server, {torn} of them in the middle of a write; "
        f"{len(run.history)} pushes, quarantined {run.quarantined}"
    )


def _lived(told: Told) -> dict[str, set[int]]:
    """A trainer's life: pushes at which it killed a worker, and that it kept a checkpoint of."""
    folder, before = Path(told.folder), shared_names()
    done = subprocess.run(
        told.command(), cwd=HERE, env=marked(folder), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == (0 if told.dies is None else -signal.SIGKILL), done.stderr or "it ended before it died"
    assert not done.stderr, done.stderr
    nothing_runs_on(folder, before)
    said: dict[str, set[int]] = {"killed": set(), "kept": set()}
    for line in done.stdout.splitlines():
        what, push = line.split()
        said[what].add(int(push))
    return said


def _torn(kept: Path) -> int:
    """Whether something was left half written; nothing is there that does not belong there."""
    names = [path.name for path in [*kept.glob("*"), *kept.glob("*/*.writing")]]
    partial = [name for name in names if name.endswith(".writing") or name.startswith(".writing-")]
    assert len(partial) <= 1
    assert {*names} - {*partial} <= {"events", *(f"{number:010}" for number in numbers(kept))}
    assert len(numbers(kept)) <= KEEP + 1, "one more while the oldest is being deleted"
    return len(partial)


def _kept(folder: Path, plan: Plan, before: Kept | None) -> Kept:
    """By the newest checkpoint, which is whole, and knows all that one before it knew."""
    number, state = latest(folder)
    training, recorder = state["training"], Recorder()
    recorder.load_state_dict(training["recorder"])
    found = Kept(recorder.history(), read_events_of(folder)[: training["events"]])
    assert len(found.history) == number
    if before is not None:
        before.is_in(found.history, found.events)
    server = plan.server(plan.task.build(plan.seed))
    server.load_state_dict(training["server"])
    check_sums(server)
    return found


def _held_against_all(told: Told, kept: Kept) -> unstale.Run:
    folder = Path(told.folder)
    run = unstale.Run.load(folder / RUN)
    check(run, BATCHES * told.epochs)
    assert run.events is not None
    kept.is_in(run.history, run.events)
    again = repeat(plan(**told.settings), run.events)
    assert all(torch.equal(again.params[name], value) for name, value in run.params.items())
    assert abs(run.score - trained(strategy="sequential", **told.settings).score) < 10
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if "writing" in path.name}
    assert not names, "a temporary file is left"
    assert len(numbers(folder / KEPT)) <= KEEP
    assert {path.name for path in folder.iterdir()} == {KEPT, RUN}
    return run


def in_a_folder(kills: int, server_kills: int, **told: Any) -> str:
    """As `crashes`, in a folder that goes afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        return crashes(kills, server_kills, Told(folder=folder, **told))
