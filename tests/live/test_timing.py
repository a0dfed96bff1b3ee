"""A real run as a timeline: every second of a worker is drawn once, as what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import unstale
from tests.engines.problems import blobs
from tests.live.logs import crashed
from unstale.events import COLUMNS, EventLog
from unstale.timing import jobs, timeline


def spans(drawn: dict[str, Any], worker: int) -> list[tuple[str, float, float]]:
    """Name, begin and end, in seconds."""
    found = [event for event in drawn["traceEvents"] if event["ph"] == "X" and event["tid"] == worker]
    return [(span["name"], span["ts"] / 1e6, (span["ts"] + span["dur"]) / 1e6) for span in found]


def marks(drawn: dict[str, Any], worker: int) -> list[tuple[str, float]]:
    found = [event for event in drawn["traceEvents"] if event["ph"] == "i" and event["tid"] == worker]
    return [(mark["name"], mark["ts"] / 1e6) for mark in found]


def test_jobs_in_the_order_in_which_they_were_sent() -> None:
    rows = jobs(crashed().frame())
    assert rows["ticket"].to_list() == [0, 1, 2, 3, 4, 5, 6]
    assert rows["worker"].to_list() == [0, 1, 0, 1, 0, 1, 1]
    assert rows["sent"].to_list() == [0.5, 0.5, 1.5, 4.5, 5.25, 6.0, 8.5]
    assert rows["arrived"].fillna(-1).to_list() == [1.5, 4.5, 3.0, -1, 6.0, 8.0, -1]


def test_a_worker_that_waits() -> None:
    assert spans(timeline(crashed().frame()), 0) == [
        ("pull", 0.5, 0.75),
        ("compute", 0.75, 1.25),
        ("push", 1.25, 1.5),
        ("pull", 1.5, 2.0),
        ("compute", 2.0, 2.5),
        ("push", 2.5, 3.0),
        ("wait", 3.0, 5.25),
        ("pull", 5.25, 5.5),
        ("compute", 5.5, 6.0),  # its clock is a little fast: no gradient arrives before it is computed
        ("push", 6.0, 6.0),
    ]


def test_a_worker_that_dies_and_one_ticket_that_is_taken_away() -> None:
    drawn = timeline(crashed().frame())
    assert spans(drawn, 1) == [
        ("pull", 0.5, 1.0),
        ("compute", 1.0, 4.0),
        ("push", 4.0, 4.5),
        ("lost", 4.5, 5.0),
        ("pull", 6.0, 6.5),
        ("compute", 6.5, 7.5),
        ("push", 7.5, 8.0),
        ("wait", 8.0, 8.5),
        ("lost", 8.5, 8.5),
    ]
    assert marks(drawn, 1) == [("joins", 0.0), ("is gone", 5.0), ("joins", 6.0), ("is silent", 7.0)]


def test_tracks_have_names_and_long_runs_are_cut() -> None:
    drawn = timeline(crashed().frame(), drawn=3)
    names = {
        (event["name"], event["tid"]): event["args"]["name"] for event in drawn["traceEvents"] if event["ph"] == "M"
    }
    assert names["process_name", 0] == "unstale (the first 3 of 7 jobs)"
    assert [names["thread_name", worker] for worker in range(3)] == ["worker 0", "worker 1", "worker 2"]
    assert len(spans(drawn, 0)) == 6
    assert marks(drawn, 1) == [("joins", 0.0)]


def test_a_real_run_saves_its_timeline(tmp_path: Path) -> None:
    run = unstale.train(blobs(), "sync", 2, engine="processes", epochs=1, batch_size=8, lr=0.05)
    drawn = json.loads((run.save(tmp_path / "run") / "timeline.json").read_text())
    assert run.events is not None
    assert {event["name"] for event in drawn["traceEvents"] if event["ph"] == "X"} >= {
        "pull",
        "compute",
        "push",
        "wait",
    }
    for worker in (0, 1):
        found = spans(drawn, worker)
        assert sum(name == "compute" for name, _, _ in found) == run.members[worker]["pushes"]
        times = [time for _, begin, end in found for time in (begin, end)]
        assert times == pytest.approx(sorted(times), abs=2e-6)  # one thing after the other
        assert times[-1] <= run.events["time"].max() + 1e-6


def test_a_run_that_fails_before_anything_happens_says_why(tmp_path: Path) -> None:
    """And not that its log is empty."""
    for log in (EventLog(), EventLog(tmp_path / "events")):
        assert list(log.frame().columns) == list(COLUMNS)
        assert len(log.frame()) == 0
        assert len(jobs(log.frame())) == 0

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("nothing to evaluate")

    task = blobs()
    task.loss = broken
    with pytest.raises(ZeroDivisionError, match="nothing to evaluate"):
        unstale.train(task, "asgd", 2, engine="processes", record=tmp_path / "run")
