from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import unstale
from tests.experiments.pieces import FAILING
from unstale.errors import ArgumentError, MissingPackageError, StoreError, UnknownNameError
from unstale.experiments import GRIDS, Choice, Range, Tuning
from unstale.experiments.points import tuned
from unstale.experiments.space import grid_points, make_space, read, written
from unstale.heatmap import heatmap_figure

SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 32, "workers": 2}
SPACE = {"momentum": [0.0, 0.9], "lr": [0.01, 0.1, 1e9]}


def tune(**changes: Any) -> Tuning:
    return unstale.tune(unstale.tasks.quadratic(), **{"space": SPACE, **SMALL, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    return tune(out=tmp_path_factory.mktemp("tune") / "here", seeds=2)


def test_paper70_is_the_grid_of_ten_by_seven() -> None:
    points = grid_points(GRIDS["paper70"]) or []
    assert len(points) == 70
    assert sorted({p["momentum"] for p in points}) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert sorted({p["lr"] for p in points}) == [0.1 / 32, 0.1 / 16, 0.1 / 8, 0.1 / 4, 0.1 / 2, 0.1, 0.2]


def test_every_combination_is_trained_once(done: Tuning) -> None:
    tried = list(zip(done.trials["momentum"], done.trials["lr"], strict=True))
    assert tried == [(m, lr) for m in SPACE["momentum"] for lr in SPACE["lr"]]
    assert set(done.trials["seeds"]) == {2}
    assert len(list(done.folder.glob("runs/*/config.json"))) == 12
    assert {path.name for path in done.folder.glob("*.*")} >= {"trials.csv", "best.json", "heatmap.png", "study.db"}


def test_a_trial_is_the_mean_of_ordinary_runs(done: Tuning) -> None:
    row = done.trials.iloc[4]
    method = unstale.methods.nag_asgd(momentum=0.9)
    given: dict[str, Any] = {"lr": 0.1, "epochs": 1, "batch_size": 32}
    runs = [unstale.train(unstale.tasks.quadratic(), method, 2, seed=seed, **given) for seed in (0, 1)]
    assert row["score"] == pytest.approx(sum(run.score for run in runs) / 2, rel=1e-9)


def test_the_best_is_the_best_that_did_not_diverge(done: Tuning) -> None:
    good = done.trials[done.trials["diverged"] == 0]
    assert done.best_score == good["score"].min()  # a distance: lower is better
    assert set(done.best_params) == {"momentum", "lr"}
    assert done.trials["diverged"].tolist() == [0, 0, 2, 0, 0, 2]
    told = json.loads((done.folder / "best.json").read_text())
    assert told["params"] == done.best_params
    assert told["score"] == done.best_score
    assert done.edges() == [name for name, end in (("momentum", 0.9), ("lr", 0.01)) if done.best_params[name] == end]


def test_a_nan_is_no_score_and_the_worst() -> None:
    tuning = tune(space={"lr": [0.1, 1e30]}, epochs=4, method="asgd")
    assert tuning.trials["state"].tolist() == ["finished", "finished"]
    assert not math.isfinite(tuning.trials["score"][1])
    assert tuning.best_params == {"lr": 0.1}


def test_where_all_diverge_there_is_no_best(tmp_path: Path) -> None:
    tuning = tune(space={"lr": [1e30], "momentum": [0.5]}, epochs=4, out=tmp_path)
    assert tuning.best_params == {}
    assert math.isnan(tuning.best_score)
    assert json.loads((tmp_path / "best.json").read_text())["score"] is None


def test_trials_csv_is_the_table_in_memory(done: Tuning) -> None:
    read_back = pd.read_csv(done.folder / "trials.csv", keep_default_na=False, na_values={"score": "", "std": ""})
    pd.testing.assert_frame_equal(read_back, done.trials)
    pd.testing.assert_frame_equal(Tuning.load(done.folder).trials, done.trials)


def test_finished_trials_are_never_repeated(done: Tuning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unstale.experiments.points.simulate", lambda *_: pytest.fail("a run was repeated"))
    pd.testing.assert_frame_equal(tune(out=done.folder, seeds=2).trials, done.trials)


def test_the_answer_does_not_depend_on_jobs(done: Tuning, tmp_path: Path) -> None:
    spread = tune(out=tmp_path, seeds=2, jobs=2)
    columns = ["momentum", "lr", "score", "diverged", "state"]
    pd.testing.assert_frame_equal(spread.trials[columns], done.trials[columns])


@pytest.fixture
def dies_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Interrupts the k-th run, and counts runs."""
    from unstale.experiments import points

    simulate, counted = vars(points)["simulate"], [0]

    def die(at: int) -> list[int]:
        counted[0] = 0

        def dying(*given: Any) -> unstale.Run:
            counted[0] += 1
            if counted[0] == at:
                raise KeyboardInterrupt
            run: unstale.Run = simulate(*given)
            return run

        monkeypatch.setattr(points, "simulate", dying)
        return counted

    return die


@pytest.mark.parametrize("how", ["grid", "tpe"])
def test_interrupted_it_keeps_what_is_done_and_repeats_one_run(dies_at: Any, tmp_path: Path, how: str) -> None:
    given: dict[str, Any] = {"out": tmp_path, "seeds": 2}
    if how == "tpe":
        given |= {"space": {"lr": "log:0.001..1", "momentum": "0..0.9"}, "trials": 6, "prune": False}
    dies_at(6)
    with pytest.raises(KeyboardInterrupt):
        tune(**given)
    stopped = Tuning.load(tmp_path).trials
    assert stopped["state"].tolist() == ["finished", "finished", "failed"]
    assert stopped["reason"].tolist() == ["", "", "interrupted"]
    assert len(pd.read_csv(tmp_path / "trials.csv")) == 3
    counted = dies_at(0)
    tuning = tune(**given)
    assert counted[0] == 12 - 5
    points = [
        written({"momentum": m, "lr": lr}) for m, lr in zip(tuning.trials["momentum"], tuning.trials["lr"], strict=True)
    ]
    assert points[3] == points[2]
    assert (tuning.trials["state"] == "finished").sum() == 6
    assert len(set(points)) == 6


KILLED = """
import os, sys, unstale
from unstale.experiments import points
real = points.simulate
def dying(*given):
    if len(list(os.scandir(sys.argv[1] + "/runs"))) == 2 if os.path.isdir(sys.argv[1] + "/runs") else False:
        os.kill(os.getpid(), 9)
    return real(*given)
points.simulate = dying
unstale.tune(unstale.tasks.quadratic(), space={"lr": [0.01, 0.02, 0.05, 0.1]}, workers=2, epochs=1, out=sys.argv[1])
"""


def test_killed_it_marks_the_trial_as_failed_and_tries_its_point_again(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, env=os.environ)
    assert ended.returncode == -9
    assert Tuning.load(tmp_path).trials["state"].tolist() == ["finished", "finished", "running"]
    tuning = tune(space={"lr": [0.01, 0.02, 0.05, 0.1]}, epochs=1, batch_size=32, out=tmp_path)
    assert tuning.trials["state"].tolist() == ["finished", "finished", "failed", "finished", "finished"]
    assert tuning.trials["lr"].tolist() == [0.01, 0.02, 0.05, 0.05, 0.1]


def test_tpe_takes_so_many_trials_and_more_on_request(tmp_path: Path) -> None:
    space = {"lr": Range(1e-3, 1.0, log=True), "batch_size": "int:8..64"}
    given: dict[str, Any] = {"space": space, "method": "asgd", "out": tmp_path, "prune": False}
    first = tune(trials=2, **given)
    more = tune(trials=4, **given)
    assert len(more.trials) == 4
    pd.testing.assert_frame_equal(more.trials.iloc[:2], first.trials)
    assert more.trials["lr"].between(1e-3, 1).all()
    assert more.trials["batch_size"].between(8, 64).all()
    assert all(isinstance(value, int) for value in more.trials["batch_size"].tolist())
    assert more.trials["lr"].nunique() == 4


def test_the_median_pruner_stops_hopeless_trials(tmp_path: Path) -> None:
    """The first five set the median; a learning rate that does not move is worse than that at the first evaluation."""
    lrs = [0.1, 0.11, 0.12, 0.13, 0.14, 1e-9, 0.15]
    given: dict[str, Any] = {"space": {"lr": lrs}, "method": "asgd", "epochs": 4, "out": tmp_path}
    tuning = tune(prune=True, **given)
    assert tuning.trials["state"].tolist()[:6] == ["finished"] * 5 + ["pruned"]
    assert len(tune(prune=True, **given).trials) == len(lrs)
    pushes = [len(pd.read_parquet(p)) for p in sorted(tmp_path.glob("runs/lr_1e-09*/history.parquet")) or []]
    assert not pushes or pushes[0] < 100
    assert tuning.best_params["lr"] in lrs[:5] + lrs[6:]


def test_a_trial_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    tuning = tune(method=FAILING, space={"lr": [0.1, 0.2]}, out=tmp_path)
    assert [failure.reason for failure in tuning.failures] == ["TwoWords: out of order"] * 2
    assert str(tuning.failures[0]).startswith("lr=0.1, N = 2")
    assert tuning.trials["state"].tolist() == ["failed"] * 2
    assert len(tune(method=FAILING, space={"lr": [0.1, 0.2]}, out=tmp_path).trials) == 4


def test_another_tuning_is_refused(done: Tuning, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds another tuning: settings\.epochs was 1\.0, now 2\.0"):
        tune(out=done.folder, seeds=2, epochs=2)
    with pytest.raises(StoreError, match=r"specification|space\.lr\.values was"):
        tune(out=done.folder, seeds=2, space={"momentum": [0.0, 0.9], "lr": [0.01]})
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="and no tuning"):
        tune(out=tmp_path)
    with pytest.raises(StoreError, match=r"holds no tuning: .* a folder that tune has written"):
        Tuning.load(tmp_path)


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    tune(space={"lr": [0.1]}, out=tmp_path)
    (tmp_path / "study.db").write_bytes(b"garbage" * 999)
    with pytest.raises(StoreError, match=r"study\.db cannot be used .* tune again"):
        Tuning.load(tmp_path)
    (tmp_path / "tuning.json").write_text('{"specification": {}}')
    with pytest.raises(StoreError, match=r"tuning\.json is damaged"):
        Tuning.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("0..0.99", Range(0.0, 0.99)),
        ("log:0.001..1", Range(0.001, 1.0, log=True)),
        ("int:16..128", Range(16.0, 128.0, whole=True)),
        ("int:log: 16 .. 128", Range(16.0, 128.0, log=True, whole=True)),
        ("0.1, 0.2", Choice((0.1, 0.2))),
        ("element,layer", Choice(("element", "layer"))),
        ([True, False], Choice((True, False))),
    ],
)
def test_spaces_are_read(text: object, dimension: object) -> None:
    assert make_space(None, {"x": text}) == {"x": dimension}


@pytest.mark.parametrize(
    "point", [{"lr": 0.1 / 32, "per": "a, b=')"}, {"batch_size": 16, "plus_one": True, "c": -1e-30}]
)
def test_labels_are_read_back_exactly(point: dict[str, Any]) -> None:
    assert read(written(point)) == point


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"grid": "paper7"}, ArgumentError, "grid and space exclude"),
        ({"grid": "paper7", "space": None}, UnknownNameError, "did you mean paper70"),
        ({"space": {}}, ArgumentError, "space must give values"),
        ({"space": {"lr": "1..0"}}, ArgumentError, r"space of 'lr': a range must go .* up"),
        ({"space": {"lr": "log:0..1"}}, ArgumentError, "must begin above 0"),
        ({"space": {"lr": "int:0.5..1"}}, ArgumentError, "must end in whole numbers"),
        ({"space": {"lr": "cubic:0..1"}}, ArgumentError, "unknown form 'cubic'"),
        ({"space": {"lr": "a..b"}}, ArgumentError, "two numbers with .. between"),
        ({"space": {"lr": ""}}, ArgumentError, "at least one"),
        ({"space": {"lr": [0.1, 0.1]}}, ArgumentError, "different ones"),
        ({"space": {"lr": [math.nan]}}, ArgumentError, "finite"),
        ({"space": {"lr": 3}}, ArgumentError, "space of 'lr' must be"),
        ({"space": {"lr": "0..1"}}, ArgumentError, "trials must be given"),
        ({"space": {"lr": [-1.0]}}, ArgumentError, "lr must be a finite number of at least 0, got -1"),
        ({"space": {"momentum": "0..1.5"}, "trials": 1}, ArgumentError, "momentum must"),
        (
            {"space": {"momentum": [0.5]}, "method": "asgd"},
            ArgumentError,
            r"'momentum' cannot be tuned .* \(it has none\)",
        ),
        ({"space": {"warmup": [0.5]}}, ArgumentError, r"no setting \(lr, weight_decay, batch_size\)"),
        ({"lr": lambda progress: 0.1}, ArgumentError, "'lr' cannot be tuned here"),
        ({"method": 3}, ArgumentError, "method must be a name"),
        ({"method": lambda momentum: 3}, ArgumentError, "a function that makes a Method"),
        ({"trials": 0}, ArgumentError, "trials must be"),
        ({"seeds": 0}, ArgumentError, "seeds must be"),
        ({"workers": 0}, ArgumentError, "workers must be"),
        ({"jobs": 0}, ArgumentError, "jobs must be"),
        ({"seed": 1}, ArgumentError, r"tune\(\) has no argument 'seed'"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, Any], error: type, message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        tune(out=tmp_path / "none", **changes)
    assert not (tmp_path / "none").exists()


def test_values_go_where_they_belong() -> None:
    plan = unstale.engines.Plan(
        task=unstale.tasks.quadratic(), method=unstale.methods.get("ga"), lr=unstale.Recipe(0.1, warmup=0.1)
    )
    point: dict[str, Any] = {
        "momentum": 0.3,
        "per": "layer",
        "lr": 0.7,
        "warmup": 0.2,
        "weight_decay": 0.01,
        "batch_size": 8,
    }
    made = tuned(plan, "ga", point)
    assert made.method == unstale.methods.ga(momentum=0.3, per="layer")
    assert made.lr == unstale.Recipe(0.7, warmup=0.2)
    assert (made.weight_decay, made.batch_size) == (0.01, 8)
    assert tuned(plan, unstale.methods.ga, {"momentum": 0.3}).method == unstale.methods.ga(momentum=0.3)
    assert tuned(plan, "ga(per=model)", {"momentum": 0.3}).method == unstale.methods.ga(0.3, "model")


def test_without_optuna_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'unstale\[tune\]'"):
        tune(out=tmp_path)


def test_what_cannot_travel_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"method cannot travel to another process"):
        tune(method=lambda momentum: unstale.methods.ga(momentum), jobs=2, out=tmp_path)


@pytest.mark.parametrize(
    ("space", "trials", "labels"),
    [
        ({"lr": [0.1, 0.2], "momentum": [0.0, 0.5]}, None, ("learning rate η", "momentum γ")),
        ({"lr": "log:0.01..1", "momentum": "0..0.5"}, 3, ("learning rate η", "momentum γ")),
        ({"per": ["element", "layer"], "lr": [0.1, 1e30]}, None, ("learning rate η", "per")),
        ({"per": ["element", "layer"]}, None, ("per", "test distance")),
    ],
)
def test_the_picture(space: dict[str, Any], trials: int | None, labels: tuple[str, str], tmp_path: Path) -> None:
    figure = heatmap_figure(tune(method="ga", space=space, trials=trials, out=tmp_path))
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == labels
    assert axes.get_title(loc="left").startswith("orange: best")
    cells = [patch for patch in axes.patches if patch.get_hatch() == "////"]
    assert len(cells) == (2 if labels[1] == "per" else 0)
    if trials is not None:
        assert axes.get_xscale() == "log"
