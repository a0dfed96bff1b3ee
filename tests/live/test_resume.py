"""A server that dies goes on from its last checkpoint, and what came of it can be replayed to the bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import unstale
from tests.engines.problems import blobs, equal
from tests.live.test_processes import SMALL, plan
from unstale.clocks import Gamma
from unstale.engines.replay import repeat

PACE = Gamma(mean=0.01, cv=0.5)


class Fails(unstale.Callback):
    def __init__(self, push: int) -> None:
        self.push = push

    def on_push(self, row: Mapping[str, Any]) -> None:
        if row["push"] == self.push:
            raise RuntimeError("as a full disk would, in a callback")


@pytest.mark.parametrize("method", ["dana_ga", "sync"])
def test_after_an_error_it_goes_on_where_it_was(method: str, tmp_path: Path) -> None:
    checkpoints = unstale.Checkpoints(tmp_path / "kept", pushes=7)
    given: dict[str, Any] = {"engine": "processes", "pace": PACE, **SMALL}
    with pytest.raises(RuntimeError):
        unstale.train(blobs(), method, 3, callbacks=[Fails(11)], checkpoints=checkpoints, **given)
    run = unstale.train(blobs(), method, 3, resume=tmp_path / "kept", **given)
    assert run.status == "finished"
    assert run.history["push"].tolist() == list(range(len(run.history)))
    assert run.events is not None
    assert (run.events["kind"] == "resume").sum() == 1
    assert equal(run, repeat(plan(method, 3), run.events))


SCRIPT = """
import os, signal, sys, unstale
from tests.engines.problems import blobs
class Dies(unstale.Callback):
    def on_push(self, row):
        if row["push"] == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
checkpoints = unstale.Checkpoints(sys.argv[1], pushes=5)
unstale.train(blobs(), "dana_ga", 3, engine="processes", lr=0.05, batch_size=8, epochs=3, callbacks=[Dies()],
              pace=unstale.clocks.Gamma(mean=0.01, cv=0.5), checkpoints=checkpoints)
"""


def test_after_kill_9_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    died = subprocess.run([sys.executable, "-c", SCRIPT, str(folder), "13"], timeout=300, check=False)
    assert died.returncode == -9
    run = unstale.train(blobs(), "dana_ga", 3, engine="processes", pace=PACE, resume=folder, **SMALL)
    assert run.events is not None
    assert len(run.history) == run.history["push"].nunique() == plan("dana_ga", 3).pushes
    assert equal(run, repeat(plan("dana_ga", 3), run.events))
