"""A disk that is full for a while: it costs checkpoints, which is told, and nothing else."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import unstale
from tests.engines.problems import blobs, equal
from tests.faults.inject import At, ended, plan, started
from tests.live.test_processes import SMALL
from unstale.checkpoint import numbers
from unstale.engines.live.launch import LiveRun
from unstale.engines.replay import repeat
from unstale.events import EventLog, read_events


def full(place: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_does_not_end_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From push 5 to push 18 no checkpoint can be written, and no piece of the log, which is due all the time."""
    seen: list[list[int]] = []

    def fills(live: LiveRun, worker: int) -> None:
        live._conductor.log._events = 2
        monkeypatch.setattr(os, "fsync", full)

    def empties(live: LiveRun, worker: int) -> None:
        seen.append(numbers(tmp_path))
        monkeypatch.undo()

    with pytest.warns(RuntimeWarning) as told:
        run = ended(started(at=At({5: fills, 18: empties}), checkpoints=unstale.Checkpoints(tmp_path, pushes=3)))
    ends = {str(warning.message).rpartition("; ")[2] for warning in told}
    assert ends == {"training goes on without", "until then events are kept in memory"}
    assert len(told) == 2
    assert all("No space left on device" in str(warning.message) for warning in told)
    assert seen == [[3]]
    assert numbers(tmp_path)[-1] >= 19
    assert run.events is not None
    assert equal(run, repeat(plan(), run.events))
    on_disk = read_events(tmp_path / "events")
    assert on_disk.equals(run.events[: len(on_disk)])
    assert not list(tmp_path.rglob("*.writing*"))


def test_a_piece_of_the_log_is_on_the_disk_and_its_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that counts on it may outlive a loss of power."""
    synced = []
    usual = os.fsync

    def fsync(place: int) -> None:
        synced.append(Path(f"/proc/self/fd/{place}").readlink().name)
        usual(place)

    monkeypatch.setattr(os, "fsync", fsync)
    log = EventLog(tmp_path / "events")
    log.add(0.0, "join", worker=0)
    log.write()
    assert synced == ["000000.writing", "events"]


def test_a_run_whose_log_was_deleted_under_it_is_kept_without(tmp_path: Path) -> None:
    class Deletes(unstale.Callback):
        def on_push(self, row: Mapping[str, Any]) -> None:
            if row["push"] == 5:
                shutil.rmtree(tmp_path / "events")

    kept = unstale.Checkpoints(tmp_path / "kept", pushes=3)  # which have the log written
    given: dict[str, Any] = {"engine": "processes", "callbacks": [Deletes()], "checkpoints": kept, **SMALL}
    with pytest.warns(RuntimeWarning) as told:
        run = unstale.train(blobs(), "dana_ga", 2, record=tmp_path / "events", **given)
    assert "the run is kept without its events" in str(told[-1].message)
    assert run.status == "finished"
    assert run.events is None
    assert "events" not in run.summary()
