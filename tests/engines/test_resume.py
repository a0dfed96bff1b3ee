"""A run that is killed at any push and taken up again is, to the bit, the one that was never killed."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import unstale
from tests.engines.problems import blobs, equal, normed
from tests.engines.test_streams import reading
from unstale import methods
from unstale.callbacks import Callback, StopRun
from unstale.checkpoint import latest, numbers
from unstale.clocks import Gamma
from unstale.engines.gradients import choose
from unstale.engines.simulate import Simulation
from unstale.errors import ArgumentError, Interrupted, StoreError
from unstale.kernels import Auto
from unstale.record import Run
from unstale.tasks import Task

UNEQUAL = Gamma(cv=0.5, heterogeneity=0.6)


class Killed(BaseException):
    """Nobody catches it, as nobody catches a kill -9."""


class Ending(Callback):
    def __init__(self, push: int, error: BaseException | type[BaseException] = Killed) -> None:
        self.push, self.error = push, error

    def on_push(self, row: Mapping[str, Any]) -> None:
        if row["push"] == self.push:
            raise self.error


class Spectral(nn.Module):
    """Buffers that forward passes change, other than running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6))
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x).relu())
        return out


def trained(task: Task | None = None, **plan: Any) -> Run:
    usual = {"method": "dana_ga", "workers": 4, "lr": 0.05, "epochs": 3, "batch_size": 8, "clock": UNEQUAL}
    return unstale.train(task or blobs(), **{**usual, "eval_every": 0.7, **plan})


def killed(folder: Path, push: int, task: Task | None = None, **plan: Any) -> None:
    with pytest.raises(Killed):
        trained(task, callbacks=[Ending(push)], **plan)
    assert numbers(folder)


def every(folder: Path, pushes: int = 2) -> unstale.Checkpoints:
    return unstale.Checkpoints(folder, pushes=pushes, seconds=None)


def deaths(count: int, pushes: int, salt: object) -> list[int]:
    """Pushes to be killed at, in order."""
    return sorted(random.Random(str(salt)).sample(range(2, pushes), count))


CASES: dict[str, dict[str, Any]] = {
    "asgd": {"method": "asgd"},
    "one momentum for each worker": {"method": "dana_ga(momentum=0.8)"},
    "dana_dc": {"method": "dana_dc"},
    "dc_asgd, adaptive": {"method": "dc_asgd(variant=a)"},
    "penalty of a layer": {"method": "ga(per=layer)"},
    "adam": {"method": "ga_adam", "clip": 0.25},
    "a gate": {"method": "sync"},
    "a gate, and cancelled tickets": {"method": "backup", "workers": 5},
    "a gather": {"method": "fedbuff"},
    "a schedule": {"method": "delay_adaptive", "lr": unstale.Recipe(0.1, warmup=0.2, decay="cosine")},
    "one worker": {"workers": 1},
    "half precision": {"dtype": torch.bfloat16},
    "groups": {"decay_norm_and_bias": False, "weight_decay": 0.1},
    "running statistics": {"task": lambda: blobs(normed)},
    "running statistics of each worker": {"task": lambda: blobs(normed), "batch_norm": "per-worker"},
    "running statistics made anew": {"task": lambda: blobs(normed), "batch_norm": "recalibrate"},
    "other buffers": {"task": lambda: blobs(Spectral)},
    "streams": {"task": reading, "batch_size": 3},
    "streams and dropout": {"task": lambda: reading(dropout=0.2), "batch_size": 3},
    "divergence": {"method": "nag_asgd", "lr": 1e18},
    "divergence, refused": {"method": "nag_asgd", "lr": 1e18, "on_nonfinite": "reject"},
}
STRATEGIES = ("sequential", "threads(threads=2)", "batched(lanes=3)", "batched(lanes=2, threads=2)")


def check(folder: Path, count: int, plan: dict[str, Any]) -> Run:
    """Kill a run ``count`` times, each time take it up, and compare."""
    plan = {**plan, "task": plan.get("task", blobs)()}
    whole = trained(**plan)
    at = deaths(count, len(whole.history), plan.get("method", folder.name))
    killed(folder, at[0], checkpoints=every(folder), **plan)
    for push in at[1:]:
        if push > latest(folder)[0]:
            killed(folder, push, resume=folder, **plan)
    run = trained(resume=folder, **plan)
    assert equal(run, whole)
    assert run.config == whole.config
    assert (run.status, run.cancelled, run.quarantined) == (whole.status, whole.cancelled, whole.quarantined)
    return run


@pytest.mark.parametrize("case", CASES)
def test_killed_and_taken_up_again_it_is_the_same_run(tmp_path: Path, case: str) -> None:
    check(tmp_path, 3, {"strategy": "sequential", **CASES[case]})


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
@pytest.mark.parametrize("method", ["dana_ga", "backup", "ga_adam"])
def test_so_it_is_with_gradients_that_were_computed_ahead(tmp_path: Path, strategy: str, method: str) -> None:
    """What is computed together decides the last bits: it is kept, and not computed again in other company."""
    run = check(tmp_path, 3, {"strategy": strategy, "method": method, "workers": 7, "task": lambda: blobs(size=90)})
    assert run.config["strategy"] == strategy


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
def test_so_it_is_with_buffers_that_were_computed_ahead(tmp_path: Path, strategy: str) -> None:
    def norm() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    check(tmp_path, 2, {"strategy": strategy, "task": lambda: blobs(norm), "batch_norm": "per-worker", "workers": 6})


def test_at_every_single_push(tmp_path: Path) -> None:
    plan: dict[str, Any] = {"method": "backup", "strategy": "batched(lanes=3)", "epochs": 1.5}
    whole = trained(**plan)
    trained(checkpoints=unstale.Checkpoints(tmp_path, pushes=1, keep=1000), **plan)
    for number in numbers(tmp_path):
        alone = tmp_path / "alone"
        shutil.rmtree(alone, ignore_errors=True)
        shutil.copytree(tmp_path / f"{number:010}", alone / f"{number:010}")
        assert equal(trained(resume=alone, **plan), whole)
    assert numbers(tmp_path) == list(range(1, len(whole.history) + 1))


def test_the_switch_to_compiled_steps_comes_at_the_same_push(tmp_path: Path) -> None:
    """Sums differ in their last digits there, so a gap would show it."""

    def plan(seen: list[bool]) -> dict[str, Any]:
        class Telling(Auto):
            def run(self, program: Any, operands: Any) -> dict[str, float]:
                sums = super().run(program, operands)
                seen.append(self._seen > self.elements)
                return sums

        return {"executor": Telling(elements=20 * (15 + 2**16)), "method": "ga", "strategy": "sequential"}

    never: list[bool] = []
    whole = trained(**plan(never))
    assert never.count(False) == 20
    before, after = list[bool](), list[bool]()
    killed(tmp_path, 9, checkpoints=every(tmp_path, 3), **plan(before))
    run = trained(resume=tmp_path, **plan(after))
    assert equal(run, whole)
    assert len(before) > 9
    assert after == never[-len(after) :]


def test_the_strategy_is_not_chosen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "LITTLE", 0.0)
    whole = trained(checkpoints=every(tmp_path), callbacks=[Ending(9, StopRun)])
    monkeypatch.setattr(Simulation, "choose", pytest.fail)
    run = trained(resume=tmp_path)
    assert [run.config[name] for name in ("strategy", "strategy_reason")] == [
        whole.config[name] for name in ("strategy", "strategy_reason")
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, StopRun, ZeroDivisionError])
def test_an_end_before_the_end_loses_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    """A checkpoint is written there, though none was due; a last evaluation that was made then is not in it."""
    whole = trained()
    checkpoints = unstale.Checkpoints(tmp_path, seconds=3600)
    with contextlib.suppress(Interrupted, ZeroDivisionError):
        trained(checkpoints=checkpoints, callbacks=[Ending(10, error)])
    assert numbers(tmp_path) == [11]
    assert equal(trained(resume=tmp_path), whole)


def test_a_state_in_the_middle_of_a_push_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a second Ctrl-C may leave it."""
    whole = trained(strategy="sequential")
    push = unstale.Server.exchange

    def torn(server: unstale.Server, *args: Any, **named: Any) -> Any:
        if server.accepted == 11:
            push(server, *args, **named)
            raise KeyboardInterrupt
        return push(server, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(unstale.Server, "exchange", torn)
        with pytest.raises(Interrupted):
            trained(strategy="sequential", checkpoints=every(tmp_path, 5))
    assert numbers(tmp_path) == [5, 10]
    assert equal(trained(strategy="sequential", resume=tmp_path), whole)


def test_an_interrupted_evaluation_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained()
    evaluate, calls = Task.evaluate, []

    def interrupted(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "evaluate", interrupted)
        with pytest.raises(Interrupted):
            trained(checkpoints=every(tmp_path))
    assert equal(trained(resume=tmp_path), whole)


def test_a_last_evaluation_draws_the_same_random_numbers(tmp_path: Path) -> None:
    """Recalibration runs the model in training, and nothing is computed between the checkpoint and it."""

    def dropping() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 3))

    plan: dict[str, Any] = {"task": blobs(dropping), "batch_norm": "recalibrate", "strategy": "sequential"}
    whole = trained(checkpoints=every(tmp_path, 1), **plan)
    assert numbers(tmp_path)[-1] == len(whole.history)
    assert equal(trained(resume=tmp_path, **plan), whole)


def test_a_finished_run_is_finished_again(tmp_path: Path) -> None:
    whole = trained(checkpoints=every(tmp_path, 5))
    assert equal(trained(resume=tmp_path), whole)


def test_seconds_add_up(tmp_path: Path) -> None:
    first = trained(checkpoints=every(tmp_path), callbacks=[Ending(20, StopRun)])
    stored = latest(tmp_path)[1]["training"]["seconds"]
    assert 0 < stored < first.seconds
    assert trained(resume=tmp_path).seconds > stored


def test_the_one_before_a_damaged_one_is_used(tmp_path: Path) -> None:
    whole = trained()
    killed(tmp_path, 14, checkpoints=every(tmp_path, 5))
    (tmp_path / "0000000010" / "state.json").write_text("{}")
    with pytest.warns(RuntimeWarning, match=r"0000000010 is damaged \(state.json is not what was written\)"):
        run = trained(resume=tmp_path)
    assert equal(run, whole)
    assert numbers(tmp_path)[-1] == 20


def test_a_full_disk_does_not_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained()
    calls = []

    def fsync(place: int) -> None:
        calls.append(place)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.warns(RuntimeWarning) as warned:
        run = trained(checkpoints=every(tmp_path, 5))
    assert [str(one.message) for one in warned] == [
        f"cannot write a checkpoint to {tmp_path}: No space left on device; free some space or choose another folder; "
        "training goes on without"
    ]
    assert equal(run, whole)
    monkeypatch.undo()
    assert numbers(tmp_path) == [5]
    assert equal(trained(resume=tmp_path), whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.1}, r"lr was 0\.05, now 0\.1"),
        ({"method": "ga"}, "method.*was"),
        ({"workers": 3}, "workers was 4, now 3"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"epochs": 4}, r"epochs was 3\.0, now 4\.0"),
        ({"clock": Gamma(cv=0.1)}, r"clock\.cv was 0\.5, now 0\.1"),
        ({"task": blobs(size=63)}, r"task\..* was"),
        ({"method": methods.dana_ga(momentum=0.8)}, r"momentum was 0\.9, now 0\.8"),
        ({"strategy": "sequential"}, "strategy was 'auto', now 'sequential'"),
    ],
)
def test_another_plan_is_refused_and_the_difference_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    killed(tmp_path, 5, checkpoints=every(tmp_path))
    with pytest.raises(ArgumentError, match=f"resume must be given the plan that the run began with, but .*{message}"):
        trained(resume=tmp_path, **change)


def test_other_versions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(tmp_path, 5, checkpoints=every(tmp_path))
    monkeypatch.setattr(unstale, "__version__", "9")
    with pytest.warns(
        RuntimeWarning, match=rf"unstale was '{unstale.__version__[0]}|now '9': .* not to the same last bits"
    ):
        trained(resume=tmp_path)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no checkpoint"):
        trained(resume=tmp_path)
    trained(checkpoints=every(tmp_path), callbacks=[Ending(5, StopRun)])
    with pytest.raises(
        StoreError, match=r"holds checkpoints already; go on with them \(resume=.*\), or choose another"
    ):
        trained(checkpoints=every(tmp_path))
    with pytest.raises(StoreError, match="cannot write to"):
        trained(checkpoints=every(Path("/dev/null/x")))
    with pytest.raises(ArgumentError, match=r"checkpoints must be unstale.Checkpoints\('FOLDER'\), or None, got 'x'"):
        trained(checkpoints="x")
    with pytest.raises(ArgumentError, match="resume must be a folder of checkpoints, or None, got 3"):
        trained(resume=3)


def test_it_goes_on_as_it_was_kept_or_as_it_is_asked_to(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    trained(checkpoints=unstale.Checkpoints(one, pushes=4, keep=2), callbacks=[Ending(9, StopRun)])
    assert numbers(one) == [8, 10]
    trained(resume=str(one), checkpoints=every(two, 7), callbacks=[Ending(19, StopRun)])
    assert (numbers(one), numbers(two)) == ([8, 10], [11, 18, 20])
    trained(resume=one, callbacks=[Ending(19, StopRun)])
    assert numbers(one) == [18, 20]


def test_a_folder_belongs_to_one_run_at_a_time(tmp_path: Path) -> None:
    """A job that is started again while it still runs, elsewhere or unseen, does not write over itself."""

    class Again(Callback):
        tried = 0

        def on_push(self, row: Mapping[str, Any]) -> None:
            if row["push"] == 5:
                with pytest.raises(StoreError, match="is in use already; wait until it is not"):
                    trained(resume=tmp_path)
                self.tried += 1

    again = Again()
    run = trained(checkpoints=unstale.Checkpoints(tmp_path, pushes=2), callbacks=[again])
    assert again.tried == 1
    assert equal(run, trained())
    assert equal(trained(resume=tmp_path), run), "once it is over, somebody else may go on"
