"""Streams with memory, on processes of which one is killed: it is kept, or reset and told, as documented."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import unstale
from tests.engines.test_streams import reading
from tests.faults.checker import USED
from tests.faults.inject import QUICK, At, ended, kill, plan, started
from unstale.engines.replay import repeat

TEXT: dict[str, Any] = {"lr": 0.1, "epochs": 2, "batch_size": 3}


def read(method: str, workers: int, at: At, patience: unstale.Patience = QUICK) -> unstale.Run:
    """A run that keeps all laws, and those of memories: reset where another did the batch before, and only there."""
    how = plan(reading(), method, workers, **TEXT)
    run = ended(started(reading(), method, workers, at, patience=patience, **TEXT), how.pushes)
    assert run.events is not None
    again = repeat(how, run.events)
    assert all(torch.equal(again.params[name], value) for name, value in run.params.items())
    length, done = how.batches.per_stream, dict[Any, Any]()
    assert length is not None
    pushes = run.events[run.events["kind"].isin(["push", "exchange"])]
    for row, batch in zip(run.history.itertuples(), pushes["batch"], strict=True):
        if row.outcome in USED:
            assert row.stream == batch // length
            assert row.reset == (batch % length > 0 and done[batch - 1] != row.worker)
            done[batch] = row.worker
    return run


def test_a_worker_that_is_restarted_finds_its_memory_as_it_left_it() -> None:
    """So a run of one, killed twice, is the simulator's to the bit."""
    at = At({5: kill, 9: kill})
    run = read("asgd", 1, at)
    assert at.reasons.count("SIGKILL") == 2
    assert not run.history["reset"].any()
    whole = unstale.train(reading(), "asgd", 1, strategy="sequential", **TEXT)
    assert run.history["loss"].tolist() == whole.history["loss"].tolist()


@pytest.mark.parametrize("method", ["dana_ga", "sync"])
def test_whoever_takes_over_begins_without_memory_and_that_is_told(method: str) -> None:
    at = At({0: kill})  # after the first batch of its first stream
    run = read(method, 2, at, unstale.Patience(max_restarts=0))
    assert at.reasons.count("SIGKILL") == 1
    assert run.history["reset"].sum() == 1


def test_a_killed_worker_among_others() -> None:
    at = At({5: kill, 20: kill})
    read("dana", 3, at)
    assert len(at.incidents) == 2
