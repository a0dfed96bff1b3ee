"""A server goes on from a checkpoint that was written in the middle of something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import unstale
from tests.engines.problems import blobs, equal
from tests.faults.inject import SMALL, At, about, conducted_by, ended, fails, plan, started
from tests.faults.inside import Inside, inside
from unstale.checkpoint import latest
from unstale.engines.live.fleet import Arrived, Gone, Message, Up
from unstale.engines.live.launch import LiveRun
from unstale.engines.replay import repeat
from unstale.errors import Interrupted, RunError
from unstale.events import read_events

AT_ONCE = unstale.Patience(back_off=0.0)


def failed(live: LiveRun, kept: Path) -> list[dict[str, Any]]:
    """It fails, and keeps a checkpoint: what that tells of its workers."""
    with pytest.raises(RuntimeError, match="as a full disk would"):
        live.result(900)
    members: list[dict[str, Any]] = latest(kept)[1]["training"]["members"]
    return members


def as_heard(fleet: Inside, messages: list[Message]) -> list[Message]:
    return messages


def test_a_worker_that_was_being_started_again_is_started(tmp_path: Path) -> None:
    """It is none of the server's at that moment, and would be waited for in vain."""

    def heard(fleet: Inside, messages: list[Message]) -> list[Message]:
        if fleet.server.accepted < 3:
            return messages
        breaks = [Gone(1, "broken") if m.worker == 1 and isinstance(m, Arrived) else m for m in messages]
        return [m for m in breaks if not (m.worker == 1 and isinstance(m, Up))]

    members = failed(conducted_by(inside(heard), plan(), At({9: fails}), AT_ONCE, tmp_path), tmp_path)
    assert [member["state"] for member in members] == ["busy", "starting"]
    at = At()
    run = ended(conducted_by(inside(as_heard), plan(), at, AT_ONCE, tmp_path, resume=True))
    assert not at.incidents
    assert set(run.history["worker"][10:]) == {0, 1}
    assert about(run, 1)["restarts"] == 1


def test_a_worker_that_was_leaving_finishes_and_leaves(tmp_path: Path) -> None:
    def scaled(live: LiveRun, worker: int) -> None:
        live._conductor.scale(1)
        fails(live, worker)

    failed(conducted_by(inside(as_heard), plan(), At({3: scaled}), kept=tmp_path), tmp_path)
    run = ended(conducted_by(inside(as_heard), plan(), kept=tmp_path, resume=True))
    assert about(run, 1)["state"] == "gone"
    assert run.history["worker"][4:].to_list().count(1) == 1


def test_it_may_go_on_in_another_folder_with_the_whole_log(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    failed(started(at=At({11: fails}), checkpoints=unstale.Checkpoints(one, pushes=5)), one)
    before = read_events(one / "events")
    run = ended(started(resume=one, checkpoints=unstale.Checkpoints(other, pushes=5)))
    assert run.events is not None
    assert equal(run, repeat(plan(), run.events))
    assert read_events(one / "events").equals(before)
    assert read_events(other / "events").equals(run.events)


def test_a_log_that_is_not_there_is_missed_at_the_start(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    how: dict[str, Any] = {"record": tmp_path / "log"}
    failed(started(at=At({11: fails}), checkpoints=unstale.Checkpoints(kept, pushes=5), **how), kept)
    with pytest.raises(unstale.errors.StoreError, match=r"the checkpoint counts on [0-9]+ events.*record="):
        unstale.launch(blobs(), "dana_ga", 2, resume=kept, **SMALL)
    assert ended(started(resume=kept, **how)).status == "finished"


def test_what_was_half_written_goes_though_no_checkpoint_follows(tmp_path: Path) -> None:
    failed(conducted_by(inside(as_heard), plan(), At({3: fails}), kept=tmp_path), tmp_path)
    (tmp_path / ".writing-9").mkdir()
    ended(conducted_by(inside(as_heard), plan(), kept=tmp_path, resume=True))
    assert {path.name for path in tmp_path.iterdir()} == {"events", f"{4:010}"}


def test_workers_that_were_lost_for_good_may_try_anew(tmp_path: Path) -> None:
    """A cluster is lost as a whole, and is there again."""

    def lost(fleet: Inside, messages: list[Message]) -> list[Message]:
        if fleet.server.accepted < 5:
            return messages
        return [Gone(message.worker, "the cluster is lost") for message in messages]

    patience = unstale.Patience(back_off=0.0, max_restarts=1)
    with pytest.raises(RunError, match="all workers are gone"):
        conducted_by(inside(lost), plan(), patience=patience, kept=tmp_path).result(300)
    run = ended(conducted_by(Inside, plan(), patience=patience, kept=tmp_path, resume=True))
    assert set(run.history["worker"]) == {0, 1}


def test_workers_that_end_with_the_run_are_started_by_whoever_goes_on(tmp_path: Path) -> None:
    """As when a whole job is told to end."""
    stopping: list[int] = []

    def end(live: LiveRun, worker: int) -> None:
        stopping.append(worker)
        live._conductor.stop("interrupted")

    def heard(fleet: Inside, messages: list[Message]) -> list[Message]:
        return [Gone(message.worker, "its machine ends") for message in messages] if stopping else messages

    with pytest.raises(Interrupted):
        conducted_by(inside(heard), plan(), At({5: end}), kept=tmp_path).result(300)
    members: Any = latest(tmp_path)[1]["training"]["members"]
    assert "gone" not in {member["state"] for member in members}
    run = ended(conducted_by(Inside, plan(), kept=tmp_path, resume=True))
    assert set(run.history["worker"]) == {0, 1}
