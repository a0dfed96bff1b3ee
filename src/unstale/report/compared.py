"""The page of a comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from unstale.errors import StoreError
from unstale.experiments import Comparison
from unstale.experiments.outline import Outline
from unstale.experiments.tables import Cell as Score
from unstale.experiments.tables import caption, cells, footnotes
from unstale.report.charts import curves_chart, gap_chart, scores_chart
from unstale.report.page import Cell, Page, Section, Table, markdown, picture, split_claim
from unstale.report.runs import alerts, colour, runs_table, settings, value

__all__ = ["comparison_page", "extras", "facts", "heads", "in_time", "made", "scored", "subtitle"]

CLAIMS = "claims.md"
_DRAWN = ("scores.png", "delay_vs_gap.png", "curves.png", "time.png")  # the page draws them itself


def comparison_page(folder: Path) -> Page:
    """From what is stored; unfinished comparisons too. Raises `StoreError` if it is damaged."""
    comparison = Comparison.load(folder)
    outline, results = comparison.outline, comparison.results
    return Page(
        title=outline.subject,
        subtitle=subtitle(outline),
        facts=facts(comparison),
        alerts=alerts(comparison),
        sections=[
            _claims(comparison),
            Section("Final scores", tables=[_scores(comparison)], charts=[scores_chart(outline, results)]),
            Section(
                in_time(outline),
                charts=[curves_chart(outline, comparison.curves, results), gap_chart(outline, comparison.epochs)],
            ),
            *extras(folder),
            Section("Every run", tables=[runs_table(comparison)]),
            settings(comparison),
        ],
        made=made(outline),
    )


def subtitle(outline: Outline) -> str:
    """How many of what."""
    return f"{len(outline.labels)} methods compared on {_counts(outline.workers)} workers, {outline.seed_count}"


def in_time(outline: Outline) -> str:
    """A section's title."""
    return f"In time, with {outline.largest} workers"


def made(outline: Outline) -> str:
    """The birth certificate."""
    return f"Made by {outline.made.get('command')} on {outline.made.get('date')}."


def facts(comparison: Comparison) -> dict[str, str]:
    """The few numbers on top."""
    outline, results = comparison.outline, comparison.results
    at_largest = {label: cells(outline, results)[outline.largest, label] for label in outline.labels}
    told = {}
    for label, cell in at_largest.items():
        if cell.best:
            told[f"best with {outline.largest} workers"] = f"{label} {cell.text}"
            break
    baseline = results[(results["method"] == outline.baseline_label) & (results["workers"] == 1)]["score"]
    if len(baseline):
        told["baseline, one worker"] = f"{baseline.mean(skipna=False):.4g}"
    told["runs"] = f"{len(results)} of {len(outline.trials())}"
    if len(results):
        told["diverged"] = str(int(results["diverged"].sum()))
        told["training"] = _duration(float(results["seconds"].sum()))
    return told


def extras(folder: Path) -> list[Section]:
    """Other tables and pictures that lie in the folder."""
    texts = [path for path in sorted(folder.glob("*.md")) if path.name not in (CLAIMS, "table.md")]
    told = [Section(_name(path), html=[markdown(_text(path))]) for path in texts]
    found = {path.stem: picture(path) for path in sorted(folder.glob("*.png")) if path.name not in _DRAWN}
    pictures = [(name, data) for name, data in found.items() if data]
    return told + ([Section("Further pictures", pictures=pictures)] if pictures else [])


def heads(labels: Sequence[str]) -> list[Cell]:
    """A column's head for each method."""
    return [Cell(label, colour=colour(label, labels)) for label in labels]


def scored(row: Mapping[str, Score], labels: Sequence[str], mark: str = "") -> list[Cell]:
    """Scores as cells of the page. mark: of what is neither best nor diverged."""
    return [_scored(row[label], mark) for label in labels]


def _scored(cell: Score, mark: str) -> Cell:
    diverged = bool(cell.n) and cell.diverged == cell.n
    title = f"{cell.diverged} of {cell.n} runs diverged" if cell.diverged else ""
    return Cell(cell.text, value(cell.mean), "best" if cell.best else "bad" if diverged else mark, title=title)


def _claims(comparison: Comparison) -> Section:
    path = comparison.folder / CLAIMS
    if path.is_file():
        text = re.sub(r"\A\s*# .*\n", "", _text(path))  # the section has a title of its own
        return Section("The paper’s claims", html=[markdown(text)])
    said = comparison.claims() if len(comparison.results) else []
    lead = "" if said else "Nothing can be said before the first run has finished."
    return Section("The paper’s claims", lead=lead, claims=[split_claim(sentence) for sentence in said])


def _scores(comparison: Comparison) -> Table:
    outline, results = comparison.outline, comparison.results
    scores = cells(outline, results)
    rows = [
        [Cell(str(n), n), *scored({label: scores[n, label] for label in outline.labels}, outline.labels)]
        for n in outline.workers
    ]
    best = ["Best of each row in bold."] if any(cell.best for cell in scores.values()) else []
    notes = [f"{caption(outline, results)}.", *best, *footnotes(outline, results)]
    return Table("Final scores by method and number of workers", [Cell("N"), *heads(outline.labels)], rows, notes)


def _text(path: Path) -> str:
    """Of a file that anybody may have put there. Raises `StoreError`, naming it, if it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise StoreError(
            f"{path} must be UTF-8 text, but has {byte:#04x} at byte {error.start}; mend or remove it"
        ) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror or error}); mend or remove it") from error


def _name(path: Path) -> str:
    return path.stem.replace("_", " ").replace("-", " ").capitalize()


def _counts(numbers: Sequence[int]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 600
        else f"{seconds / 60:.0f} min"
        if seconds < 36000
        else f"{seconds / 3600:.0f} h"
    )
