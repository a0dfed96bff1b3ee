"""Pages of what `unstale reproduce` makes: ours and the paper's side by side."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import unstale
from tests.cli.run import Command
from tests.experiments import frames
from tests.report.browser import needs_browser, seen
from unstale.experiments import Order, presets, reproduce
from unstale.experiments.reproduce import job
from unstale.report import report
from unstale.report.charts import gap_chart

SMALL: dict[str, Any] = {"seeds": 2, "epochs": 0.2, "task_options": {"width": 2}}


def charts(html: str) -> dict[str, Any]:
    found = re.search(r'id="charts">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return {chart["id"]: chart for chart in json.loads(found[1])}


@pytest.fixture(scope="module")
def table4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduced") / "table4"
    reproduce(Order.of("table4", workers=[4, 12], methods=["sa", "dana_ga"], **SMALL), folder)
    return folder


def test_the_papers_rows_and_picture_are_beside_ours(table4: Path) -> None:
    html = report(table4).read_text("utf-8")
    rows = [re.findall(r"<t[hd][^>]*>([^<]*)", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    assert [row[:2] for row in rows if row[1:2] in (["here"], ["paper"])] == [
        ["4", "here"],
        ["4", "paper"],
        ["12", "here"],
        ["12", "paper"],
    ]
    assert ["12", "paper", "89.7±0.3", "91.9±0.2"] in rows
    drawn = charts(html)
    assert list(drawn) == ["scores", "paper", "curves", "gaps-12"]
    ours, theirs = drawn["scores"], drawn["paper"]
    assert [s["colour"] for s in ours["series"]] == [s["colour"] for s in theirs["series"]]
    assert [s["name"] for s in theirs["series"]] == ["sa", "dana_ga"]
    assert {"x": 12.0, "y": 89.73, "s": 0.27} in [{k: p.get(k) for k in "xys"} for p in theirs["series"][0]["points"]]
    assert (theirs["level"]["y"], theirs["y"]["most"]) == (92.43, 100.0)
    assert "<li>model: resnet8 here, resnet20 in the paper [P]</li>" in html
    assert "sync" in [s["name"] for s in drawn["curves"]["series"]]


def test_claims_are_those_of_the_runs_and_not_of_an_old_file(table4: Path) -> None:
    (table4 / "claims.md").write_text("# Claims\n\nAll is well.\n")
    html = report(table4).read_text("utf-8")
    assert "All is well" not in html
    assert "DANA-GA at least as accurate as DANA-SA" in html


@needs_browser
def test_it_draws_both_pictures_without_complaint(table4: Path, tmp_path: Path) -> None:
    shown = seen(report(table4), tmp_path)
    assert shown.console == []
    assert shown.dom.count('role="img"') == 4


def test_the_figure_has_a_picture_for_each_number_of_workers(tmp_path: Path) -> None:
    reproduce(Order.of("figure-c8", workers=[2, 8], **{**SMALL, "seeds": 1}), tmp_path)
    html = report(tmp_path).read_text("utf-8")
    assert list(charts(html)) == ["scores", "curves", "gaps-2", "gaps-8"]
    assert 'alt="pushes"' in html


def test_gaps_are_means_over_seeds() -> None:
    epochs = frames.make_epochs(ga=(9.0, 4.0))
    epochs.loc[epochs["seed"] == 0, "normalised_gap"] += 3.0
    outline = frames.make_outline(frames.of_table(frames.TABLE_4, 0.5))
    delay, gap = gap_chart(outline, epochs)["series"]
    assert [(p["x"], p["y"]) for p in delay["points"]] == [(1.0, 10.0), (2.0, 10.0)]
    assert [(p["x"], p["y"]) for p in gap["points"]] == [(1.0, 10.0), (2.0, 5.0)]


def tuned_by_hand(patch: pytest.MonkeyPatch) -> Order:
    chosen = SimpleNamespace(best_params={"momentum": 0.5, "lr": 0.025}, failures=())
    patch.setattr(unstale, "tune", lambda *_, **__: chosen)
    patch.setitem(presets.get("table1").about, "workloads", ["table4", "table5"])
    return Order.of("table1", workers=[3], **SMALL)


@pytest.fixture
def table1(monkeypatch: pytest.MonkeyPatch) -> Order:
    return tuned_by_hand(monkeypatch)


@pytest.fixture(scope="module")
def made1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """Its folder, and how many rows its table has."""
    folder = tmp_path_factory.mktemp("table1")
    with pytest.MonkeyPatch.context() as patch:
        yield folder, len(reproduce(tuned_by_hand(patch), folder).table)


def test_table_1_is_shown_from_its_folder(unstale_command: Command, made1: tuple[Path, int], tmp_path: Path) -> None:
    folder, rows = made1
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".csv", ".md")}
    for path in [*tmp_path.glob("*.md"), *tmp_path.glob("*.png")]:
        path.unlink()
    said = unstale_command("show", tmp_path)
    assert said.code == 0, said.err
    assert said.out.count("tuned: momentum 0.5, lr 0.025.") == 2
    assert {path.name for path in tmp_path.glob("*.png")} == {"scores.png", "time.png"}
    assert {name: (tmp_path / name).read_bytes() for name in written} == written
    parsed = json.loads(unstale_command("show", tmp_path, "--json").out)
    assert len(parsed["table"]) == rows == 2 * (2 + 4 + 2 + 2)  # baseline, methods, sync, tuned
    assert not any("methods:" in note for note in parsed["notes"])


def test_table_1_compares_with_what_the_paper_had_there(table1: Order, tmp_path: Path) -> None:
    """Not with table 4's seven methods at ten numbers of workers."""
    changed = Order.of("table1", **{**SMALL, "seeds": 1}, methods=["ga"], workers=[3])
    note = reproduce(changed, tmp_path).notes()[0]
    assert "methods: ga here, ga, dana_ga in the paper [P]." in note
    assert "workers: 3 here, 32 in the paper [P]." in note
    assert "epochs: 0.2 here, 160 in the paper [A]." in note


def test_table_1_is_a_page(made1: tuple[Path, int]) -> None:
    html = report(made1[0]).read_text("utf-8")
    drawn = charts(html)
    assert list(drawn) == ["curves-table4", "curves-table5"]
    assert [s["name"] for s in drawn["curves-table4"]["series"]] == ["tuned_asgd", "ga", "dana_ga", "sync"]
    assert html.count("tuned_asgd</th>") >= 3  # the table's column, and its runs in both tables of runs
    assert "<dd>tuned: momentum 0.5, lr 0.025</dd>" in html
    assert re.findall(r'<span class="number">(.*?)</span>', html) == ["table4, Claim 6", "table5, Claim 6"]


def test_an_unfinished_table_1_is_shown_as_far_as_it_is(
    unstale_command: Command, table1: Order, tmp_path: Path
) -> None:
    job(table1, tmp_path, "by hand")
    said = unstale_command("show", tmp_path)
    assert said.code == 0, said.err
    assert said.out.count("not tuned yet.") == 2
    assert pd.read_csv(tmp_path / "table.csv").empty
    assert "table4: No run has finished yet" in report(tmp_path).read_text("utf-8")


def test_table_2_has_synchronous_adam_beside_it(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\n".join(f"line {k} of a text that is not long" for k in range(120)))
    options = {"streams": 4, "root": str(tmp_path / "text")}
    about: dict[str, Any] = {"seeds": 1, "epochs": 1, "batch_size": 4, "workers": [2, 4], "methods": ["adam"]}
    made = reproduce(Order.of("table2", task_options=options, **about), tmp_path / "made")
    assert made.failures == ()
    curves = charts(report(tmp_path / "made").read_text("utf-8"))["curves"]["series"]
    assert {series["name"]: series["dashed"] for series in curves} == {"adam": False, "sync_adam": True}
    table = pd.read_csv(tmp_path / "made" / "results.csv").set_index(["method", "workers"])
    assert ("sync_adam", 2) not in table.index
    assert table["speedup"]["sync_adam", 4] == pytest.approx(1.0)
    assert table["mean_delay"]["sync_adam", 4] == 0.0
