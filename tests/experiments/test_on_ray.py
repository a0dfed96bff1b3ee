"""Runs on a cluster's actors, which are threads here: the runs of this machine to the bit, whoever dies over them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import unstale
from tests.cli.run import SMALL as SHORT
from tests.cli.run import Command
from tests.experiments.test_compare import small_task
from tests.live.fake_ray import Actor, FakeRay
from unstale.errors import ArgumentError, MissingPackageError, RunError
from unstale.experiments import Comparison, Trial
from unstale.experiments.hands import Jobs
from unstale.experiments.on_ray import Runner
from unstale.experiments.points import Points
from unstale.experiments.space import make_space, written
from unstale.experiments.tuned import TuningStore
from unstale.experiments.tuning import Search
from unstale.experiments.worker import packed

SMALL: dict[str, Any] = {"epochs": 0.26, "batch_size": 64, "lr": 0.05, "strategy": "sequential"}


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    # Real actors are processes; how many threads torch may use belongs to one.
    alone, work = threading.Lock(), Runner.work

    def in_turn(runner: Runner, *given: Any) -> Any:
        with alone:
            return work(runner, *given)

    monkeypatch.setattr(Runner, "work", in_turn)
    return fake


def compare(out: Path, **changes: Any) -> Comparison:
    given = {"methods": ("asgd", "ga"), "workers": 2, "seeds": 1, "out": out, **SMALL, **changes}
    return unstale.compare(small_task(), **given)


def files(comparison: Comparison) -> dict[str, bytes]:
    """The histories of all runs."""
    return {str(p.relative_to(comparison.folder)): p.read_bytes() for p in comparison.folder.glob("runs/*/history*")}


def test_runs_on_a_cluster_are_those_of_this_machine(tmp_path: Path, ray: FakeRay) -> None:
    here = compare(tmp_path / "here")
    there = compare(tmp_path / "there", engine="ray", jobs=None)
    assert files(there) == files(here)
    assert len(files(here)) == 4
    assert len(ray.asked) == 2  # as many as there are cores
    assert {"num_cpus": 1.0, "max_restarts": 0}.items() <= ray.asked[0].items()
    assert not ray.is_initialized()


def test_nobody_is_asked_where_nothing_is_missing(tmp_path: Path, ray: FakeRay) -> None:
    done = compare(tmp_path, methods="asgd")
    again = compare(tmp_path, methods="asgd", engine="ray")
    assert files(again) == files(done)
    assert not ray.asked


class Mortal(Actor):
    """Dies over its first calls, as many as are ``left``."""

    left = 0

    def call(self, name: str, arguments: Any) -> Any:
        if Mortal.left and name == "work":
            Mortal.left -= 1
            self.kill()
        return super().call(name, arguments)


@pytest.mark.parametrize(("deaths", "failures"), [(2, 0), (3, 1)])
def test_a_run_whose_machine_is_lost_begins_anew(
    deaths: int, failures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.live.fake_ray.Actor", Mortal)
    monkeypatch.setattr(Mortal, "left", deaths)
    comparison = compare(tmp_path, engine="ray", jobs=1)
    assert [f.reason for f in comparison.failures] == [
        "its actor died (killed, or out of memory), or its machine was lost"
    ] * failures
    assert len(files(comparison)) == 4 - failures


def test_a_cluster_that_cannot_load_what_is_compared_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(runner: Runner) -> Any:
        raise ModuleNotFoundError("No module named 'mine'")

    monkeypatch.setattr(Runner, "_runs", property(lost))
    with pytest.raises(RunError, match=r"cannot load the comparison \(ModuleNotFoundError: No module named 'mine'\)"):
        compare(tmp_path, engine="ray")


def test_a_cluster_that_cannot_run_us_at_all_ends_it_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(runner: Runner, payload: Any) -> None:
        raise ModuleNotFoundError("No module named 'unstale'")

    monkeypatch.setattr(Runner, "__init__", lost)
    with pytest.raises(RunError, match=r"no actor of the cluster could be started.* No module named 'unstale'"):
        compare(tmp_path, engine="ray")


def test_seeds_that_are_done_travel_there_and_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tuning has several runs in a trial."""
    given: dict[str, Any] = {"space": {"lr": [0.05, 0.1]}, "workers": 2, "seeds": 2, **SMALL}
    there = unstale.tune(small_task(), "asgd", out=tmp_path / "there", engine="ray", **given)
    here = unstale.tune(small_task(), "asgd", out=tmp_path / "here", **given)
    assert there.trials.drop(columns="seconds").equals(here.trials.drop(columns="seconds"))
    monkeypatch.setattr("unstale.experiments.points.simulate", lambda *_: pytest.fail("a run was repeated"))
    search = Search.of(small_task(), "asgd", 2, make_space(None, given["space"]), None, 2, None, SMALL)
    points = Points(search.specification, TuningStore(there.folder), "asgd")
    trial = Trial(written({"lr": 0.05}), 2, 0)
    outcome, files = Runner(packed(points)).work(trial, points.files(trial))
    assert outcome == ("run", "")
    assert files == points.files(trial)
    assert len(files) == 2


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ArgumentError, match="engine must be"):
        Jobs(1, "slurm")
    with pytest.raises(ArgumentError, match="address is for engine 'ray'"):
        Jobs(1, address="auto")
    with pytest.raises(ArgumentError, match="jobs must be"):
        Jobs(None)
    with pytest.raises(ArgumentError, match="prune must be off with engine 'ray'"):
        unstale.tune(small_task(), "asgd", 2, space={"lr": [0.1]}, prune=True, engine="ray", epochs=1)


def test_without_ray_it_is_said_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'unstale\[ray\]'"):
        compare(tmp_path, engine="ray")


def test_on_the_command_line(
    tmp_path: Path, ray: FakeRay, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unstale = Command(capsys, monkeypatch)
    small = ("compare", "digits", "--methods", "asgd", "--workers", "2", "--seeds", "1", "--strategy", "sequential")
    said = unstale(*small, *SHORT, "--engine", "ray", "--address", "auto", "--out", tmp_path / "out")
    assert (said.code, len(ray.asked)) == (0, 2), said.err
    said = unstale(*small, *SHORT, "--address", "auto", "--out", tmp_path / "other")
    assert said.code == 2
    assert "address is for engine 'ray'" in said.err
