from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import unstale
from tests.cli.run import Command
from tests.experiments import frames
from tests.experiments.pieces import FAILING
from tests.report.browser import driven, needs_browser, seen
from unstale.errors import ArgumentError, StoreError
from unstale.experiments import Comparison, Specification
from unstale.experiments.conduct import open_store
from unstale.report import report
from unstale.report.charts import gap_chart, scores_chart
from unstale.report.page import flat, markdown, split_claim

EVIL = "<script>document.title=1</script>"
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 32, "lr": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run that diverged, one that failed, and a method whose name is a script."""
    place = tmp_path_factory.mktemp("report") / "here"
    methods = {"ga": "ga", "failing": FAILING, EVIL: "sa"}
    unstale.compare(unstale.tasks.quadratic(), methods, (2, 8), 2, place, **SMALL)
    return place


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return report(folder)


def test_it_is_one_file_that_asks_nobody_for_anything(page: Path) -> None:
    html = page.read_text("utf-8")
    links = re.findall(r"(?:src|href|srcset|action)=[\"']?([^\"'\s>]*)", html)
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\((?!#clip)|fetch\(|XMLHttpRequest|WebSocket|import\(", html)
    assert "default-src 'none'" in html


def test_everything_is_escaped(page: Path, folder: Path) -> None:
    html = page.read_text("utf-8")
    assert EVIL not in html
    assert html.count("<script") == html.count("</script>") == 2
    assert "&lt;script&gt;document.title=1&lt;/script&gt;" in html
    charts = re.search(r'id="charts">(.*?)</script>', html, re.DOTALL)
    assert charts is not None
    drawn = [series for chart in json.loads(charts[1]) for series in chart["series"] if series["name"] == EVIL]
    assert len(drawn) == 2
    assert drawn[0]["colour"] == drawn[1]["colour"]


def test_every_run_tells_its_configuration_and_machine(page: Path, folder: Path) -> None:
    html = page.read_text("utf-8")
    config = json.loads((folder / "runs" / "ga-n8-s1" / "config.json").read_text())["config"]
    for name, value in flat(config["versions"], "versions").items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in html
    assert html.count("<details>") == 16
    assert "ga, N = 8, seed 1" in html
    assert "<dt>method.update.momentum</dt>" in html


def test_runs_that_are_missing_are_told(page: Path) -> None:
    html = page.read_text("utf-8")
    assert "4 of 16 runs are missing (failed, or not reached): failing, N = 2, seed 0;" in html
    assert "failing, N = 8, seed 1 – missing" in html


@needs_browser
def test_it_runs_without_complaint_and_draws_its_pictures(page: Path, tmp_path: Path) -> None:
    shown = seen(page, tmp_path)
    assert shown.console == []
    assert shown.title == "quadratic / point · unstale"
    assert shown.dom.count('<figure class="chart"') == 3
    assert shown.dom.count('role="img"') == 3
    assert shown.dom.count('class="line"') > 6


SORT = """
  const table = [...document.querySelectorAll("table")].find((t) => t.caption.textContent === "Every run");
  const heads = [...table.tHead.rows[0].cells], score = heads.findIndex((head) => head.textContent === "score");
  const told = [];
  for (const at of [score, score, 0]) {
    heads[at].querySelector("button").click();
    told.push([heads.map((head) => head.getAttribute("aria-sort")),
               [...table.tBodies[0].rows].map((row) => row.cells[at].textContent.trim())]);
  }
  return told;
"""


@needs_browser
def test_tables_sort_by_every_column_and_say_how(page: Path, folder: Path, tmp_path: Path) -> None:
    up, down, names = driven(page, tmp_path, SORT).answer
    scores = sorted(Comparison.load(folder).results["score"])
    assert up[1] == [f"{score:.4g}" for score in scores]
    assert down[1] == up[1][::-1]
    assert (up[0][3], down[0][3], names[0][0]) == ("ascending", "descending", "ascending")
    assert [sum(word != "none" for word in told[0]) for told in (up, down, names)] == [1, 1, 1]
    assert names[1] == sorted(names[1], key=str.lower)


CHART = """
  const figure = document.querySelector('[data-chart="scores"]'), svg = figure.querySelector(".plot svg");
  const key = (name) => svg.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true }));
  const labels = () => [...svg.querySelectorAll("text")].map((text) => text.textContent);
  const told = { before: labels(), lines: svg.querySelectorAll(".line").length };
  key("ArrowRight");
  told.tip = figure.querySelector(".tip").innerText;
  figure.querySelector('.tools button[aria-label="Zoom in"]').click();
  told.zoomed = labels();
  const area = svg.getBoundingClientRect();
  const at = (name, x, y) => svg.dispatchEvent(new PointerEvent(name, {
    pointerId: 1, pointerType: "mouse", bubbles: true,
    clientX: area.left + x * area.width, clientY: area.top + y * area.height }));
  svg.setPointerCapture = () => {};
  at("pointerdown", 0.3, 0.3); at("pointermove", 0.6, 0.6); at("pointerup", 0.6, 0.6);
  told.dragged = labels();
  key("0");
  told.after = labels();
  at("pointermove", 0.98, 0.5);
  told.hover = figure.querySelector(".tip").innerText;
  figure.querySelector(".legend button").click();
  told.fewer = svg.querySelectorAll(".line").length;
  return told;
"""


@needs_browser
def test_pictures_answer_zoom_and_go_back(page: Path, folder: Path, tmp_path: Path) -> None:
    shown = driven(page, tmp_path, CHART)
    told = shown.answer
    table = Comparison.load(folder).results
    mean = {n: table[(table["method"] == "ga") & (table["workers"] == n)]["score"].mean() for n in (2, 8)}
    for text, n in ((told["tip"], 2), (told["hover"], 8)):
        assert text.startswith(f"N {n}")
        value = float(re.search(r"ga\s+([\d.e-]+) ±", text)[1])  # type: ignore[index]
        assert value == pytest.approx(mean[n], rel=1e-2)
    assert told["zoomed"] != told["before"] == told["after"] != told["dragged"]
    assert told["dragged"] != told["zoomed"]
    assert told["fewer"] == told["lines"] - 1
    assert shown.console == []


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(page: Path, tmp_path: Path, width: int) -> None:
    measure = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    inner, outer = driven(page, tmp_path, measure, width).answer
    assert inner <= outer <= width


@needs_browser
def test_foreign_scripts_do_not_run(page: Path, folder: Path, tmp_path: Path) -> None:
    """Neither from text, which is escaped, nor if something were not escaped: the policy knows the page's own one."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    evil = "\n\n<script>document.title='ran'</script>\n\n<img src=x onerror=\"document.title='ran'\">\n"
    (copy / "claims.md").write_text(f"# Claims\n\nAll **hold**.{evil}\n[x](javascript:alert(1))\n")
    written = report(copy)
    assert "<strong>hold</strong>" in written.read_text("utf-8")
    assert seen(written, tmp_path).title == "quadratic / point · unstale"
    html = page.read_text("utf-8").replace("</body>", f"{evil}</body>")
    (tmp_path / "injected.html").write_text(html, "utf-8")
    refused = seen(tmp_path / "injected.html", tmp_path)
    assert refused.title == "quadratic / point · unstale"
    assert any("Content Security Policy" in line for line in refused.console)  # complaints do reach us


@needs_browser
def test_a_comparison_without_a_run_is_a_page_too(tmp_path: Path) -> None:
    specification = Specification.of(unstale.tasks.quadratic(), ["ga"], 2, 1, SMALL)
    open_store(specification, tmp_path / "empty", "by hand")
    shown = seen(report(tmp_path / "empty"), tmp_path)
    assert "No run has finished yet (failed, or not reached)" in shown.dom
    assert "Nothing to draw yet" in shown.dom
    assert shown.console == []


@needs_browser
def test_a_tuning_is_a_page_too(tmp_path: Path) -> None:
    space = {"momentum": [0.0, 0.5], "lr": [0.1, 1e30]}
    tuning = unstale.tune(unstale.tasks.quadratic(), workers=2, space=space, out=tmp_path / "t", epochs=4)
    path = report(tmp_path / "t")
    html = path.read_text("utf-8")
    assert "data:image/png;base64," in html
    assert html.count('class="bad"') == 2
    assert f"{tuning.best_score:.4g}" in html
    shown = seen(path, tmp_path)
    assert shown.console == []
    assert shown.dom.count("aria-sort") > 5


def test_reproductions_are_shown_with_their_claims_and_tables(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "claims.md").write_text("# Claims\n\n1. Confirmed: <b>GA</b>.\n")
    (copy / "table_4.md").write_text("| N | paper | ours |\n|--:|--:|--:|\n| 4 | 90.5 | 90.1 |\n")
    (copy / "figure_c8.png").write_bytes((copy / "scores.png").read_bytes())
    html = report(copy).read_text("utf-8")
    assert "<li>Confirmed: &lt;b&gt;GA&lt;/b&gt;.</li>" in html
    assert "Table 4</h2>" in html
    assert '<td class="right">90.5</td>' in html  # a style in a tag would be refused by the policy
    assert 'alt="figure_c8"' in html
    assert html.count("data:image/png") == 1


def test_charts_hold_what_the_plots_draw() -> None:
    scores = frames.of_table(frames.TABLE_4, 0.5)
    outline = frames.make_outline(scores)
    chart = scores_chart(outline, frames.make_results(outline, scores))
    assert [series["name"] for series in chart["series"]] == list(frames.PAPER)
    collapsed = next(s for s in chart["series"] if s["name"] == "nag_asgd")["points"][-1]
    assert collapsed["hollow"]
    assert collapsed["y"] == pytest.approx(10.0)
    assert chart["level"]["y"] == pytest.approx(92.43)
    gaps = gap_chart(outline, frames.make_epochs(ga=(9.0, 4.0)))
    assert [s["name"] for s in gaps["series"]] == ["delay", "gap, ga"]
    assert gaps["y"]["log"]


def test_verdicts_are_set_apart() -> None:
    said = split_claim("Claim 1, GA at least as accurate as SA: confirmed (3 of 3 worker counts; 3 seeds).")
    assert (said["name"], said["verdict"], said["kind"]) == ("Claim 1", "confirmed", "good")
    noise = split_claim("Claim 5, x: fails within noise (0 of 1; 3 seeds).")
    assert (noise["verdict"], noise["kind"]) == ("fails within noise", "unclear")
    assert split_claim("Claim 1, x: holds (1 of 1; 1 seed, too few to confirm).")["kind"] == "unclear"
    assert split_claim("This data cannot speak to claim 6 (x).")["verdict"] == ""


def test_markdown_runs_nothing_and_fetches_nothing() -> None:
    made = markdown("# A\n\n<script>x</script> ![p](http://x.org/p.png) [l](javascript:x)")
    assert "<script" not in made
    assert "<img" not in made
    assert 'href="javascript' not in made
    assert "<h3>A</h3>" in made


def test_what_is_no_result_is_refused(unstale_command: Command, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no comparison, tuning or reproduction"):
        report(tmp_path)
    said = unstale_command("report", tmp_path)
    assert said.code == 2
    assert not list(tmp_path.iterdir())


def test_notes_that_are_no_text_are_named(unstale_command: Command, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("report.html"))
    for name in ("notes.md", "claims.md"):
        (copy / name).write_bytes(b"# Notes\n\xff\xfe\n")
        said = unstale_command("report", copy)
        assert (said.code, said.out) == (2, "")
        assert f"error: {copy}/{name} must be UTF-8 text, but has 0xff at byte 8;" in said.err
        assert said.err.count("\n") == 1
        (copy / name).unlink()
    assert not (copy / "report.html").exists()


def test_a_folder_that_no_system_has_is_refused() -> None:
    for read in (report, Comparison.load, unstale.Run.load):
        with pytest.raises(ArgumentError, match="folder must be a path, without NUL characters"):
            read("a\0b")
    with pytest.raises(ArgumentError, match="out must be a path, without NUL characters"):
        unstale.compare(unstale.tasks.quadratic(), "ga", 2, 1, "a\0b", **SMALL)


def test_the_command_says_where_it_is(unstale_command: Command, folder: Path) -> None:
    assert unstale_command("report", folder).out.strip().endswith("report.html")
    assert unstale_command("report", folder, "--quiet").out == ""
    assert json.loads(unstale_command("report", folder, "--json").out) == {"report": str(folder / "report.html")}
