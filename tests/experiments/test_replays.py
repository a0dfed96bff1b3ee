"""A recorded run and its replay, compared; in Python and on the command line."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import unstale
from tests.cli.run import Command
from tests.engines.problems import blobs
from unstale.clocks import Gamma
from unstale.engines import Plan
from unstale.errors import ArgumentError, Interrupted, RunError, StoreError
from unstale.experiments import replays
from unstale.experiments.replays import Replay
from unstale.methods import get

SETTINGS: dict[str, Any] = {"workers": 3, "lr": 0.05, "batch_size": 6, "epochs": 2, "seed": 1}


def plan(**changes: Any) -> Plan:
    return Plan(task=blobs(), method=get("dana_ga"), **{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pace = Gamma(mean=0.01, cv=1.0)
    run = unstale.train(blobs(), "dana_ga", engine="processes", pace=pace, **SETTINGS)
    return run.save(tmp_path_factory.mktemp("runs") / "real")


def test_the_same_to_the_bit(folder: Path) -> None:
    done = unstale.replay(folder, plan=plan())
    assert done.repeated
    assert done.identical
    assert (done.largest_difference, done.differences, done.versions) == (0.0, {}, {})
    assert done.run.config["engine"] == "replay"


def test_one_that_was_interrupted_is_the_same_too(tmp_path: Path) -> None:
    """It was not evaluated where it ended, in the middle of an epoch."""

    class Interrupts(unstale.Callback):
        def on_push(self, row: Mapping[str, Any]) -> None:
            if row["push"] == 12:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted) as interrupted:
        unstale.train(blobs(), "dana_ga", engine="processes", callbacks=[Interrupts()], **SETTINGS)
    run = interrupted.value.run
    done = unstale.replay(run.save(tmp_path / "run"), plan=plan())
    assert len(done.run.evaluations) > len(run.evaluations)
    assert done.identical
    assert Replay(altered(run, status="stopped"), done.run, repeated=True).differences == {"evaluations.rows": 1}


def test_another_method_has_the_same_arrivals(folder: Path) -> None:
    done = unstale.replay(folder, "asgd", plan=plan())
    assert not done.repeated
    assert not done.identical
    assert done.run.history["worker"].equals(done.recorded.history["worker"])
    assert done.largest_difference > 0


def test_a_plan_that_is_not_the_run_s(folder: Path) -> None:
    with pytest.raises(RunError, match="replay a run with the task, method and settings that it had"):
        unstale.replay(folder, plan=plan(epochs=1, workers=2))
    assert not unstale.replay(folder, plan=plan(seed=2)).identical


def test_folders_that_cannot_be_replayed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="does not say how its plan was made"):
        unstale.replay(folder)
    with pytest.raises(StoreError, match="is missing"):
        unstale.replay(tmp_path, plan=plan())
    simulated = unstale.train(unstale.tasks.quadratic(), "asgd", 2, epochs=0.1).save(tmp_path / "simulated")
    with pytest.raises(ArgumentError, match="folder must hold a real run"):
        unstale.replay(simulated, plan=plan())


def altered(run: unstale.Run, **changes: Any) -> unstale.Run:
    return dataclasses.replace(run, **changes)


def test_what_differs_is_named(folder: Path) -> None:
    run = unstale.Run.load(folder)
    name = next(iter(run.params))
    moved = {**run.params, name: run.params[name] + torch.tensor([0.5])}
    assert Replay(run, altered(run, params=moved), repeated=True).largest_difference == pytest.approx(0.5)
    broken = {**run.params, name: torch.full_like(run.params[name], math.nan)}
    assert math.isnan(Replay(run, altered(run, params=broken), repeated=True).largest_difference)
    assert Replay(altered(run, params=broken), altered(run, params=broken), repeated=True).identical
    assert not Replay(run, altered(run, params={}), repeated=True).identical

    history = run.history.copy()
    history.loc[[1, 4], "gap"] = 9.0
    history["loss"] = history["loss"].where(history["push"] != 2)
    found = Replay(run, altered(run, history=history), repeated=True)
    assert found.differences == {"history.gap": 2, "history.loss": 1}
    assert not found.identical
    rounding = altered(run, history=run.history.assign(gap=run.history["gap"] * (1 + 1e-7)))
    assert Replay(run, rounding, repeated=True).rounded == ("gap",), "as several servers have it"
    assert Replay(run, rounding, repeated=True).identical
    late = history.assign(outcome=history["outcome"].where(history["push"] != 2, "late"))
    nothing = late.assign(loss=late["loss"].where(late["push"] != 2))
    before = Replay(altered(run, history=late.assign(loss=1.0)), altered(run, history=nothing), repeated=True)
    assert before.differences == {"history.loss": len(history) - 1}, "all but that of the late push"
    assert Replay(run, altered(run, history=run.history.iloc[:-3]), repeated=True).differences == {"history.rows": 3}

    versions: Mapping[str, Any] = run.config["versions"]  # type: ignore[assignment]
    older = altered(run, config={**run.config, "versions": {**versions, "torch": "1.0", "cpu": "other"}})
    assert Replay(older, run, repeated=True).versions == {
        "torch": ("1.0", versions["torch"]),
        "cpu": ("other", versions["cpu"]),
    }


def test_on_the_command_line(
    folder: Path, unstale_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(replays, "plan_of", lambda _: plan())
    said = unstale_command("replay", folder)
    assert said.code == 0, said.err
    assert "identical: parameters, history and evaluations are the same to the bit" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    said = unstale_command("replay", folder, "--method", "ga", "--out", tmp_path / "ga", "--json")
    assert said.code == 0
    assert json.loads(said.out)["replayed"]["pushes"] == 20
    assert unstale.Run.load(tmp_path / "ga").config["method"]["name"] == "ga"  # type: ignore[index,call-overload]
    assert unstale_command("replay", folder, "--method", "gaa").code == 2
    assert unstale_command("replay", tmp_path / "nowhere").code == 2

    monkeypatch.setattr(replays, "plan_of", lambda _: plan(seed=2))
    said = unstale_command("replay", folder, "-q")
    assert (said.code, said.out, said.err) == (1, "", "")
    said = unstale_command("replay", folder)
    assert "not identical: parameters differ by at most" in said.out
    assert "history.loss differs in 20 rows" in said.out
