"""NaN in a gradient, under each policy; every method through real processes, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import unstale
from tests.contracts.test_contracts import METHODS
from tests.engines.problems import blobs, trained
from tests.faults import faulty
from tests.faults.faulty import Faulty
from tests.faults.inject import SMALL, At, ended, plan, started
from unstale.engines.replay import repeat


def test_nan_once_is_rejected_and_its_batch_is_done_again(tmp_path: Path) -> None:
    at = At()
    run = ended(started(Faulty(blobs(), 5, faulty.is_nan, tmp_path), at=at, on_nonfinite="reject"))
    assert run.history["outcome"].to_list().count("rejected") == 1
    assert run.summary()["nonfinite"] == run.summary()["rejected"] == run.summary()["wasted"] == 1
    assert not run.quarantined
    assert not at.incidents
    assert run.events is not None
    again = repeat(plan(on_nonfinite="reject"), run.events)
    assert all(torch.equal(again.params[name], value) for name, value in run.params.items())


def test_nan_always_is_quarantined(tmp_path: Path) -> None:
    run = ended(started(Faulty(blobs(), 5, faulty.is_nan, tmp_path, times=99), on_nonfinite="reject"))
    assert run.quarantined == (5,)


def test_nan_raises_where_it_should(tmp_path: Path) -> None:
    live = started(Faulty(blobs(), 5, faulty.is_nan, tmp_path), on_nonfinite="raise")
    with pytest.raises(unstale.errors.NonFiniteError, match="on batch 5"):
        live.result(900)


def test_nan_is_applied_where_it_should(tmp_path: Path) -> None:
    task = Faulty(blobs(), 5, faulty.is_nan, tmp_path)
    run = ended(started(task, on_nonfinite="apply", stop_on_divergence=True), None)
    assert run.status == "stopped"
    assert run.diverged


@pytest.mark.parametrize("name", METHODS)
def test_one_process_is_the_simulator_to_the_bit(name: str) -> None:
    real = ended(started(method=METHODS[name], workers=1))
    simulated = trained(METHODS[name], 1, strategy="sequential", **SMALL)
    assert all(torch.equal(real.params[key], value) for key, value in simulated.params.items())
    assert real.history.drop(columns="time").equals(simulated.history.drop(columns="time"))


@pytest.mark.parametrize("name", METHODS)
def test_several_processes_can_be_replayed_to_the_bit(name: str) -> None:
    real = ended(started(method=METHODS[name], workers=3))
    assert real.events is not None
    again = repeat(plan(method=METHODS[name], workers=3), real.events)
    assert all(torch.equal(again.params[key], value) for key, value in real.params.items())
    assert again.history.equals(real.history)
