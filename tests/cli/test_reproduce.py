from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from matplotlib.image import imread

import unstale
from tests.cli.run import Command, Said, finished, killed, start, wait_for_runs
from unstale.engines import Plan, simulate
from unstale.experiments import presets

WIDTH = ("--task-option", "width=2")
TINY = ("--seeds", "1", "--epochs", "0.2", "--jobs", "1", *WIDTH)
TABLE = {"claims.md", "delay_vs_gap.png", "results.csv", "scores.png", "table.csv", "table.md", "time.png"}
FIGURE = {
    "claims.md",
    "delay_vs_gap.png",
    "epochs.csv",
    "pushes.csv",
    "pushes.png",
    "results.csv",
    "table.csv",
    "table.md",
}


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix in (".md", ".csv", ".png")}


def assert_drawn(path: Path) -> None:
    """More than an empty page: at least a fiftieth of the pixels, and several colours."""
    pixels = imread(path)[:, :, :3]
    assert ((pixels < 0.98).any(axis=2)).mean() > 0.02
    assert len({tuple(colour) for colour in (pixels[::7, ::7].reshape(-1, 3) * 8).astype(int)}) > 4


@pytest.fixture(scope="module")
def table4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce") / "table4"
    ended = start("reproduce", "table4", "--workers", "4,12", "--methods", "sa,ga,dana_ga", *TINY, "--out", folder)
    out, err = ended.communicate(timeout=300)
    assert ended.returncode == 0, err
    (folder / "said").write_text(out, "utf-8")
    return folder


def test_the_table_stands_beside_the_papers(table4: Path) -> None:
    said = (table4 / "said").read_text("utf-8").splitlines()
    assert "  epochs: 0.2 here, 160 in the paper [A]" in said
    assert "  methods: sa, ga, dana_ga here, asgd, nag_asgd, sa, ga, dana, dana_sa, dana_ga in the paper [P]" in said
    rows = [line.split() for line in said]
    assert ["N", "sa", "ga", "dana_ga"] in rows
    assert ["paper", "91.6±0.2", "91.8±0.1", "92.1±0.2"] in rows
    assert ["paper", "89.7±0.3", "90.1±0.3", "91.9±0.2"] in rows
    assert any("baseline (nag_asgd, one worker):" in line and "in the paper 92.43 [P]" in line for line in said)
    assert any("Claim 1, GA at least as accurate" in line and "on too few seeds to tell" in line for line in said)


def test_what_is_in_the_folder(table4: Path) -> None:
    assert written(table4) == TABLE
    for name in TABLE:
        if name.endswith(".png"):
            assert_drawn(table4 / name)
    table = pd.read_csv(table4 / "table.csv")
    assert list(table["workers"]) == [1, 4, 4, 4, 12, 12, 12]
    assert list(table["paper_mean"]) == [92.43, 91.63, 91.78, 92.06, 89.73, 90.12, 91.87]
    results = pd.read_csv(table4 / "results.csv").set_index(["method", "workers"])["score"]
    assert table["mean"].iloc[2] == results["ga", 4]
    claims = (table4 / "claims.md").read_text("utf-8")
    assert "| 1. GA at least as accurate as SA at every N | **undecided** | **confirmed** |" in claims
    assert "| ga over sa | 4 |" in claims
    assert "The paper's numbers: confirmed (10 of 10 comparisons hold" in claims
    markdown = (table4 / "table.md").read_text("utf-8")
    assert "|  | paper | 91.6±0.2 | 91.8±0.1 | **92.1±0.2** |" in markdown
    assert "- model: resnet8 here, resnet20 in the paper [A]" not in markdown
    assert "- model: resnet8 here, resnet20 in the paper [P]" in markdown
    assert "Made by `unstale reproduce table4 --workers 4,12" in markdown


def test_show_draws_it_again(unstale_command: Command, table4: Path) -> None:
    before = (table4 / "table.md").read_text("utf-8")
    (table4 / "table.md").unlink()
    said = unstale_command("show", table4)
    assert (said.code, said.out) == (0, (table4 / "said").read_text("utf-8"))
    assert (table4 / "table.md").read_text("utf-8") == before
    parsed = json.loads(unstale_command("show", table4, "--json").out)
    assert len(parsed["table"]) == 7


def test_the_figure(unstale_command: Command, tmp_path: Path) -> None:
    said = unstale_command("reproduce", "figure-c8", "--workers", "2,32", *TINY, "--epochs", "1", "--out", tmp_path)
    assert said.code == 0, said.err
    assert written(tmp_path) == FIGURE
    assert_drawn(tmp_path / "delay_vs_gap.png")
    assert_drawn(tmp_path / "pushes.png")
    epochs, pushes = pd.read_csv(tmp_path / "epochs.csv"), pd.read_csv(tmp_path / "pushes.csv")
    assert set(zip(epochs["method"], epochs["workers"], strict=True)) == {
        (m, n) for m in ("ga", "dana_ga") for n in (2, 32)
    }
    at = pushes[pushes["method"] == "ga"]
    row = epochs[(epochs["method"] == "ga") & (epochs["workers"] == 32)].iloc[0]
    assert at["delay"].mean() == pytest.approx(row["delay"])
    assert at["normalised_gap"].mean() == pytest.approx(row["normalised_gap"])
    assert "Claim 7" in said.out
    assert "Claim 2, " not in said.out  # better than GA alone is not the best


def test_the_clock_is_an_option_of_every_table(unstale_command: Command, tmp_path: Path) -> None:
    arguments = ("--methods", "ga,sa", "--workers", "3", *TINY, "--heterogeneity", "0.6", "--out", tmp_path)
    said = unstale_command("reproduce", "table3", *arguments)
    assert said.code == 0, said.err
    assert "  clock: gamma(heterogeneity=0.6) here, gamma in the paper [A]" in said.out
    settings = json.loads((tmp_path / "comparison.json").read_text())["specification"]["settings"]
    assert settings["clock"]["heterogeneity"] == 0.6
    again = unstale_command("reproduce", "table3", *arguments[:-4], "--out", tmp_path)
    assert again.code == 2
    assert "holds another comparison: settings.clock.heterogeneity was 0.6, now 0" in again.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table4"], "--out must name a folder"),
        (["table7", "--out", "x"], "unknown table or figure 'table7'"),
        (["table4", "--scale", "text", "--out", "x"], "unknown scale of table4 'text'"),
        (["table4", "--workers", "four", "--out", "x"], "--workers must be whole numbers"),
        (["table4", "--seeds", "0", "--out", "x"], "seeds must be"),
        (["table4", "--jobs", "0", "--out", "x"], "--jobs must be"),
        (["table4", "--methods", "gaa", "--out", "x"], "unknown method 'gaa'"),
        (["table4", "--clock", "sundial", "--out", "x"], "unknown clock 'sundial'"),
        (["table4", "--task-option", "depth=3", "--out", "x"], "options of task 'digits' must be among"),
        (["table4", "--epochs", "-1", "--out", "x"], "epochs must be"),
        (["table6", "--task-option", r"root='/a\x00b'", "--out", "x"], "root must be a path, without NUL characters"),
    ],
)
def test_wrong_use(
    unstale_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = unstale_command("reproduce", *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_the_list(unstale_command: Command) -> None:
    said = unstale_command("reproduce", "list")
    assert said.code == 0
    assert all(name.replace("_", "-") in said.out for name in presets.NAMES)
    assert all(len(line) <= 80 for line in said.out.splitlines())
    parsed = json.loads(unstale_command("reproduce", "list", "--json").out)
    assert parsed["table4"]["paper"]["weight_decay"] == [5e-4, "M"]
    assert parsed["table4"]["scales"]["digits"]["epochs"] == 30


def test_all_goes_on_after_what_cannot_run(
    unstale_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "NAMES", ("table2", "table4", "figure_c8"))
    arguments = ("--workers", "2", "--methods", "ga,dana_ga", *TINY, "--out", tmp_path)
    said: Said = unstale_command("reproduce", "all", *arguments, "--json")
    assert said.code == 2  # Transformer-XL has no width: wrong use, and nothing else failed
    assert "error: table2 at scale text cannot run:" in said.err
    assert written(tmp_path / "table4") == TABLE
    assert written(tmp_path / "figure_c8") == FIGURE
    told = json.loads(said.out)
    assert list(told) == ["table2", "table4", "figure-c8"]
    assert told["table2"]["error"].startswith("table2 at scale text cannot run:")
    assert set(told["table4"]["files"]) == TABLE
    assert told["figure-c8"]["failures"] == []


def test_all_ends_with_1_where_a_run_has_failed(
    unstale_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "NAMES", ("table2", "table4", "table5"))
    train = simulate

    def fails_once(plan: Plan) -> unstale.Run:
        if plan.task.model_name == "resnet8" and plan.workers == 2:
            raise RuntimeError("out of luck")
        return train(plan)

    monkeypatch.setattr("unstale.experiments.worker.simulate", fails_once)
    arguments = ("--workers", "2", "--methods", "ga", *TINY, "--out", tmp_path)
    said = unstale_command("reproduce", "all", *arguments, "--json")
    assert said.code == 1
    failed = json.loads(said.out)["table4"]["failures"]
    assert failed[0] == {"label": "ga", "workers": 2, "seed": 0, "reason": "RuntimeError: out of luck"}
    assert "error: ga, N = 2, seed 0: RuntimeError: out of luck" in said.err


@pytest.mark.parametrize("option", [["--data", "{}"], ["--task-option", "root={}"]])
def test_where_the_data_are(unstale_command: Command, tmp_path: Path, option: list[str]) -> None:
    given = [word.format(tmp_path / "nowhere") for word in option]
    said = unstale_command("reproduce", "table4", "--scale", "paper", *given, "--out", tmp_path / "out")
    assert (said.code, said.out) == (2, "")
    assert f"CIFAR-10 is not in {tmp_path}/nowhere, which is not there" in said.err
    assert not (tmp_path / "out").exists()


def test_table_1_takes_the_best_trial_and_runs_it_on_every_seed(
    unstale_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Mapping[str, Any]] = []

    def tune(task: unstale.Task, method: str, workers: int, **given: Any) -> SimpleNamespace:
        asked.append({"model": task.model_name, "method": method, "workers": workers, **given})
        return SimpleNamespace(best_params={"momentum": 0.5, "lr": 0.025}, best_score=42.0, failures=())

    monkeypatch.setattr(unstale, "tune", tune, raising=False)
    monkeypatch.setitem(presets.get("table1").about, "workloads", ["table4", "table5"])
    said = unstale_command("reproduce", "table1", "--workers", "3", *TINY, "--seeds", "2", "--out", tmp_path)
    assert said.code == 0, said.err
    assert [(a["method"], a["workers"], a["grid"], a["batch_size"]) for a in asked] == [
        ("nag_asgd", 3, "paper70", 32)
    ] * 2
    assert [line.split()[0] for line in said.out.splitlines()[:3]] == ["tuned_asgd", "table4", "table5"]
    assert said.out.count("tuned: momentum 0.5, lr 0.025.") == 2
    assert said.out.count("Claim 6, GA and DANA-GA untuned") == 2
    run = unstale.Run.load(tmp_path / "table4" / "tuned" / "runs" / "tuned_asgd-n3-s1")
    assert run.history["lr"].max() == pytest.approx(0.025)
    table = pd.read_csv(tmp_path / "table.csv")
    assert set(table["method"]) >= {"tuned_asgd", "ga", "dana_ga"}
    assert written(tmp_path) == {"table.csv", "table.md", "claims.md", "scores.png", "time.png"}
    assert_drawn(tmp_path / "scores.png")
    assert_drawn(tmp_path / "time.png")


def test_table_1_without_a_tuner(unstale_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unstale, "tune", None, raising=False)
    said = unstale_command("reproduce", "table1", "--out", tmp_path / "none")
    assert (said.code, said.out) == (2, "")
    assert "table1 needs unstale.tune" in said.err
    assert not (tmp_path / "none").exists()


MANY = (
    *("reproduce", "table4", "--methods", "asgd,ga", "--workers", "2", "--seeds", "3", "--jobs", "2"),
    *("--epochs", "1", *WIDTH),
)


@pytest.mark.slow  # test_compare.py has the like, by the same code
def test_killed_and_interrupted_it_continues_without_repeating(tmp_path: Path) -> None:
    kept = killed(tmp_path, *MANY, "--out", tmp_path)

    second = start(*MANY, "--out", tmp_path)
    wait_for_runs(second, tmp_path, len(kept) + 1)
    os.killpg(second.pid, signal.SIGINT)
    out, err = second.communicate(timeout=300)
    assert (second.returncode, out) == (130, ""), err
    assert (
        f"interrupted: {len(finished(tmp_path))} of 12 runs are kept in {tmp_path}; the same command continues" in err
    )
    assert "Traceback" not in err
    kept |= finished(tmp_path)

    third = start(*MANY, "--out", tmp_path, "--json")
    out, err = third.communicate(timeout=300)
    assert third.returncode == 0, err
    assert len(finished(tmp_path)) == 12
    assert kept.items() <= finished(tmp_path).items()
    assert set(json.loads(out)["files"]) == TABLE
