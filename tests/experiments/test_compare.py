from __future__ import annotations

import errno
import gc
import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker, spawn
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import unstale
from tests.experiments.pieces import DEADLY, FAILING
from unstale import Recipe, tasks
from unstale.engines import Plan
from unstale.errors import ArgumentError, RunError, StoreError
from unstale.experiments import Comparison, Trial, recipe
from unstale.experiments.hands import _Process
from unstale.experiments.results import COLUMNS
from unstale.storage import save_run

SMALL: dict[str, Any] = {"epochs": 0.26, "batch_size": 64, "lr": 0.05}
PICTURES = {"scores.png", "delay_vs_gap.png", "curves.png"}
FILES = {"comparison.json", "sessions.json", "strategy.json", "runs", "results.csv", "table.md", *PICTURES}


def small_task() -> unstale.Task:
    return unstale.tasks.digits(width=4)


def compare(**changes: Any) -> Comparison:
    given = {"methods": ("asgd", "ga"), "workers": (2, 3), "seeds": 2, **SMALL, **changes}
    return unstale.compare(small_task(), **given)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return compare(out=tmp_path_factory.mktemp("compare") / "here")


def test_every_method_at_every_n_with_baseline_and_synchronous_training(done: Comparison) -> None:
    assert {path.name for path in done.folder.iterdir()} == FILES
    rows = list(zip(done.results["method"], done.results["workers"], done.results["seed"], strict=True))
    grid = [(m, n, s) for m in ("asgd", "ga") for n in (2, 3) for s in (0, 1)]
    assert rows == [("nag_asgd", 1, 0), ("nag_asgd", 1, 1), *grid, ("sync", 3, 0), ("sync", 3, 1)]
    assert list(done.results.columns) == list(COLUMNS)
    assert not done.failures
    assert not done.missing


def test_speedup_is_against_synchronous_training_on_the_same_clock(done: Comparison) -> None:
    speedups = {str(method): rows["speedup"].to_numpy() for method, rows in done.results.groupby("method")}
    assert speedups["sync"] == pytest.approx(1.0, rel=1e-9)
    assert speedups["nag_asgd"] == pytest.approx(1.0, rel=1e-9)
    assert speedups["asgd"].min() >= 1.0
    assert speedups["asgd"].max() > 1.0


def test_results_csv_is_the_table_in_memory(done: Comparison) -> None:
    read = pd.read_csv(done.folder / "results.csv", dtype=COLUMNS)
    pd.testing.assert_frame_equal(read, done.results)


def test_the_table_says_how_it_was_made(done: Comparison) -> None:
    text = (done.folder / "table.md").read_text(encoding="utf-8")
    assert text == done.table()
    for words in ("| N | asgd | ga |", "unstale 0.1.0, torch ", "2 seeds (0, 1), 12 runs", "epochs: 0.26", "Made by `"):
        assert words in text


def test_the_answer_does_not_depend_on_jobs(done: Comparison, tmp_path: Path) -> None:
    spread = compare(out=tmp_path / "spread", jobs=2)
    pd.testing.assert_frame_equal(spread.results.drop(columns="seconds"), done.results.drop(columns="seconds"))
    for trial in done.outline.trials():
        for table in ("history.parquet", "evaluations.parquet"):
            here, there = (c.folder / "runs" / trial.key / table for c in (done, spread))
            pd.testing.assert_frame_equal(pd.read_parquet(here), pd.read_parquet(there), check_exact=True)


def test_continuing_repeats_nothing_that_is_finished(done: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.folder.glob("runs/*/*")}
    monkeypatch.setattr("unstale.experiments.worker.simulate", lambda plan: pytest.fail("a run was repeated"))
    again = compare(out=done.folder)
    pd.testing.assert_frame_equal(again.results, done.results)
    assert {path: path.stat().st_mtime_ns for path in done.folder.glob("runs/*/*")} == before


def test_half_written_runs_are_removed_and_repeated(tmp_path: Path) -> None:
    first = compare(out=tmp_path, seeds=1, methods="asgd", workers=[2])
    half = tmp_path / "runs" / Trial("asgd", 2, 0).key
    (half / "config.json").unlink()
    (half / ".writing-x").mkdir()
    (tmp_path / ".writing-y").mkdir()
    assert Comparison.load(tmp_path).missing == [Trial("asgd", 2, 0)]
    again = compare(out=tmp_path, seeds=1, methods="asgd", workers=[2])
    pd.testing.assert_frame_equal(again.results.drop(columns="seconds"), first.results.drop(columns="seconds"))
    assert not list(tmp_path.rglob(".writing-*"))


def test_another_comparison_is_refused_and_the_differences_named(done: Comparison) -> None:
    with pytest.raises(StoreError, match=r"settings\.epochs was 0\.26, now 0\.2; choose another folder"):
        compare(out=done.folder, epochs=0.2)
    with pytest.raises(StoreError, match=r"methods\.sa was absent, now Method"):
        compare(out=done.folder, methods=("asgd", "ga", "sa"))
    with pytest.raises(StoreError, match=r"seeds was \[0, 1\], now \[0, 1, 2\]"):
        compare(out=done.folder, seeds=3)
    with pytest.raises(StoreError, match=r"methods\.ga\.update\.momentum was 0\.9, now 0\.5"):
        compare(out=done.folder, methods={"asgd": "asgd", "ga": unstale.methods.ga(momentum=0.5)})


def test_folders_that_cannot_be_used_are_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unstale.experiments.worker.simulate", lambda plan: pytest.fail("trained"))
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"holds 'thesis\.tex', and no comparison"):
        compare(out=tmp_path)
    with pytest.raises(StoreError, match="choose another folder"):
        compare(out=tmp_path / "thesis.tex")
    with pytest.raises(StoreError, match="choose another folder"):
        compare(out=tmp_path / "thesis.tex" / "inside")


@pytest.mark.parametrize("name", ["config.json", "history.parquet", "evaluations.parquet"])
def test_a_damaged_run_is_named_before_any_training(tmp_path: Path, name: str) -> None:
    compare(out=tmp_path, seeds=1, methods="asgd", workers=2)
    path = tmp_path / "runs" / "asgd-n2-s0" / name
    path.write_bytes(b"\x80\x04garbage")
    with pytest.raises(StoreError, match=rf"asgd-n2-s0/{name} is damaged .* delete .*asgd-n2-s0 and run it again"):
        compare(out=tmp_path, seeds=1, methods="asgd", workers=2)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"specification": {}}', "\x00"])
def test_a_damaged_comparison_is_named(done: Comparison, tmp_path: Path, content: str) -> None:
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(StoreError, match=r"comparison\.json is damaged"):
        compare(out=tmp_path)
    with pytest.raises(StoreError, match=r"comparison\.json is damaged"):
        Comparison.load(tmp_path)


def test_a_damaged_summary_is_named(tmp_path: Path) -> None:
    compare(out=tmp_path, seeds=1, methods="asgd", workers=2)
    path = tmp_path / "runs" / "asgd-n2-s0" / "config.json"
    record = json.loads(path.read_text())
    del record["summary"]["pushes"]
    path.write_text(json.dumps(record))
    with pytest.raises(StoreError, match=r"a summary in .* is damaged"):
        Comparison.load(tmp_path)


def test_two_processes_do_not_share_a_folder(done: Comparison) -> None:
    from unstale.experiments.store import Store

    with Store(done.folder).claimed(), pytest.raises(StoreError, match="in use already"):
        compare(out=done.folder)


def test_a_full_disk_stops_it_and_keeps_what_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(run: unstale.Run, folder: Path, **options: Any) -> Path:
        if "asgd-n3" in str(folder):
            monkeypatch.setattr(pd.DataFrame, "to_parquet", _no_space)
        return save_run(run, folder, **options)

    with monkeypatch.context() as patched:
        patched.setattr("unstale.experiments.store.save_run", full)
        with pytest.raises(StoreError, match=r"cannot save into .*asgd-n3-s0: No space left"):
            compare(out=tmp_path, methods="asgd", seeds=1)
    monkeypatch.undo()
    assert Comparison.load(tmp_path).missing == [Trial("asgd", 3, 0), Trial("sync", 3, 0)]
    assert not compare(out=tmp_path, methods="asgd", seeds=1).missing


def _no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    comparison = compare(methods=[FAILING, "ga"], workers=2, seeds=1, out=tmp_path)
    assert [str(failure) for failure in comparison.failures] == ["failing, N = 2, seed 0: TwoWords: out of order"]
    assert comparison.missing == [Trial("failing", 2, 0)]
    assert "| 2 | – |" in comparison.table()


def test_neither_does_a_process_that_dies(tmp_path: Path) -> None:
    comparison = compare(methods=[DEADLY, FAILING, "ga"], workers=2, seeds=1, out=tmp_path, jobs=2)
    reasons = {failure.trial.label: failure.reason for failure in comparison.failures}
    assert reasons == {
        "deadly": "its worker process died (killed, or out of memory)",
        "failing": "TwoWords: out of order",
    }
    assert len(comparison.results) == 3


def test_what_cannot_travel_is_named_before_any_process_starts(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"lr=.* cannot travel to another process .* or use jobs=1"):
        compare(lr=lambda progress: 0.1, jobs=2, out=tmp_path)
    task = unstale.Task(
        torch_model(), lambda output, target: ((output - target) ** 2).mean(), *([torch_data()] * 2), name="mine"
    )
    with pytest.raises(ArgumentError, match="the task's loss cannot travel"):
        unstale.compare(task, "asgd", 2, 1, jobs=2, batch_size=2)


def test_processes_that_die_before_they_read_hang_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real digits, so that what is compared is far more than a pipe holds."""
    resource_tracker.ensure_running()
    monkeypatch.setattr(spawn, "_python_exe", b"/bin/false")
    with pytest.raises(RunError, match="die as soon as they start"):
        unstale.compare(unstale.tasks.digits(), "asgd", 2, 1, tmp_path, jobs=2, epochs=1)


@pytest.mark.parametrize("started", [True, False])
def test_a_process_that_died_while_idle_is_replaced(started: bool) -> None:
    class Broken:
        def submit(self, *given: Any) -> Any:
            raise BrokenProcessPool("killed")

    hello: Future[str] = Future()
    lane = _Process(Broken(), hello)  # type: ignore[arg-type]
    if started:
        hello.set_result("ready")
        assert lane.give(Trial("ga", 2, 0)) is None
    else:
        hello.set_exception(BrokenProcessPool("killed"))
        with pytest.raises(RunError, match="die as soon as they start"):
            lane.give(Trial("ga", 2, 0))


def torch_model() -> Any:
    import torch

    return torch.nn.Linear(2, 1)


def torch_data() -> Any:
    import torch

    return torch.zeros(4, 2), torch.zeros(4, 1)


def test_without_a_folder_the_runs_live_as_long_as_the_answer() -> None:
    comparison = compare(methods="asgd", workers=2, seeds=[7])
    folder = comparison.folder
    assert len(comparison.run("asgd", 2, seed=7).history) == 6
    del comparison
    gc.collect()
    assert not folder.exists()


def test_a_task_without_accuracy_is_compared_too(tmp_path: Path) -> None:
    comparison = unstale.compare(unstale.tasks.quadratic(), ("sa", "ga"), 2, 1, tmp_path, epochs=1, lr=0.1)
    assert comparison.claims()[0].startswith("Claim 1, ")
    assert "quadratic / point: distance, 1 seed" in comparison.table()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"jobs": 0}, "jobs must be"),
        ({"workers": ()}, "workers must be at least one number"),
        ({"workers": (0, 2)}, "workers must be a whole number of at least 1, got 0"),
        ({"workers": "4,8"}, "workers must be a whole number"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1"),
        ({"methods": ()}, "methods must name at least one"),
        ({"methods": 3}, "methods must be names or Method"),
        ({"methods": ("ga", "ga")}, "labels of methods must differ, got 'ga' twice"),
        ({"methods": ("gaa",)}, "unknown method 'gaa'; did you mean ga"),
        ({"methods": {"": "ga"}}, "label must be a line"),
        ({"methods": {"sync": "ga"}}, "label 'sync' belongs to"),
        ({"methods": {"nag_asgd": unstale.methods.nag_asgd(momentum=0.5)}}, "label 'nag_asgd' belongs to"),
        ({"seed": 3}, "compare\\(\\) has no argument 'seed'"),
        ({"batch_size": 10**6}, "batch_size must be at most"),
        ({"lr": -1.0}, "lr must be"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=message):
        compare(out=tmp_path / "none", **changes)
    assert not (tmp_path / "none").exists()


def test_keys_are_readable_and_unique() -> None:
    assert Trial("dana_ga", 32, 1).key == "dana_ga-n32-s1"
    labels = ["ga(per=layer)", "ga(per=layer) ", "ga_per=layer", "GA per=layer", "äöü", "../x", "a/b"]
    keys = {Trial(label, 4, 0).key for label in labels}
    assert len({key.lower() for key in keys}) == len(labels)
    assert not any("/" in key or key.startswith(".") for key in keys)


def test_recipes_suit_the_built_in_tasks() -> None:
    assert recipe("digits", "resnet8")["lr"].lr == 0.1
    assert recipe("digits", "wrn16_1") == recipe("digits", "wrn10_2")
    assert recipe("mine", "mine") == {}
    pictures = ("mlp", "resnet8", "resnet20", "resnet50", "wrn16_4")
    language = ("transformer_xl", "transformer_xl_small", "transformer_xl_tiny")
    models = {"quadratic": ("point",), **dict.fromkeys(("text", "wikitext", "synthetic_text"), language)}
    for task in tasks.names():
        for model in models.get(task, pictures):
            assert set(recipe(task, model)) <= set(Plan.__dataclass_fields__)
            assert isinstance(recipe(task, model)["lr"], Recipe)


@pytest.mark.parametrize(
    ("task", "model", "batch", "decay", "epochs", "at", "factor"),
    [
        ("cifar10", "resnet20", 128, 5e-4, 160, (80, 120), 0.1),
        ("cifar10", "wrn16_4", 128, 5e-4, 200, (60, 120, 160), 0.2),
        ("cifar100", "wrn16_4", 128, 5e-4, 200, (60, 120, 160), 0.2),
        ("imagenet", "resnet50", 256, 1e-4, 90, (30, 60), 0.1),
    ],
)
def test_recipes_of_the_papers_workloads(
    task: str, model: str, batch: int, decay: float, epochs: int, at: tuple[int, ...], factor: float
) -> None:
    found = recipe(task, model)
    assert (found["batch_size"], found["weight_decay"], found["epochs"]) == (batch, decay, epochs)
    schedule = found["lr"].build(8, epochs)
    assert schedule(0.0) == pytest.approx(0.1 / 8)
    assert schedule(5.0) == pytest.approx(0.1)
    for passed, epoch in enumerate(at):
        assert schedule(epoch - 0.01) == pytest.approx(0.1 * factor**passed)
        assert schedule(epoch) == pytest.approx(0.1 * factor ** (passed + 1))
