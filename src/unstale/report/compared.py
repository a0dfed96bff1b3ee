"""The page of a comparison."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unstale.drawing import look
from unstale.experiments import Comparison
from unstale.experiments.outline import Trial
from unstale.experiments.store import Store
from unstale.experiments.tables import MISSING, caption, cells, footnotes
from unstale.report.charts import curves_chart, gap_chart, scores_chart
from unstale.report.page import Cell, Page, Section, Table, flat, markdown, picture, split_claim

__all__ = ["comparison_page"]

CLAIMS = "claims.md"
_DRAWN = ("scores.png", "delay_vs_gap.png", "curves.png")
_COLUMNS = {
    "method": "method",
    "workers": "N",
    "seed": "seed",
    "score": "score",
    "speedup": "speed-up",
    "mean_delay": "delay",
    "mean_normalised_gap": "normalised gap",
    "mean_gap": "gap",
    "mean_penalty": "penalty",
    "wasted": "wasted",
    "seconds": "seconds",
}


def comparison_page(folder: Path) -> Page:
    """From what is stored; unfinished comparisons too. Raises `StoreError` if it is damaged."""
    comparison = Comparison.load(folder)
    outline, results, missing = comparison.outline, comparison.results, comparison.missing
    records = {trial: Store(folder).record(trial) for trial in outline.trials() if trial not in set(missing)}
    sections = [
        _claims(comparison),
        Section("Final scores", tables=[_scores(comparison)], charts=[scores_chart(outline, results)]),
        Section(
            f"In time, with {outline.largest} workers",
            charts=[curves_chart(outline, comparison.curves, results), gap_chart(outline, comparison.epochs)],
        ),
        *_extras(folder),
        Section("Every run", tables=[_runs(comparison)]),
        _settings(comparison, records, missing),
    ]
    return Page(
        title=outline.subject,
        subtitle=f"{len(outline.labels)} methods compared on {_counts(outline.workers)} workers, {outline.seed_count}",
        facts=_facts(comparison),
        alerts=_alerts(missing, len(outline.trials())),
        sections=sections,
        made=f"Made by {outline.made.get('command')} on {outline.made.get('date')}.",
    )


def _facts(comparison: Comparison) -> dict[str, str]:
    outline, results = comparison.outline, comparison.results
    at_largest = {label: cells(outline, results)[outline.largest, label] for label in outline.labels}
    facts = {}
    for label, cell in at_largest.items():
        if cell.best:
            facts[f"best with {outline.largest} workers"] = f"{label} {cell.text}"
            break
    baseline = results[(results["method"] == outline.baseline_label) & (results["workers"] == 1)]["score"]
    if len(baseline):
        facts["baseline, one worker"] = f"{baseline.mean(skipna=False):.4g}"
    facts["runs"] = f"{len(results)} of {len(outline.trials())}"
    if len(results):
        facts["diverged"] = str(int(results["diverged"].sum()))
        facts["training"] = _duration(float(results["seconds"].sum()))
    return facts


def _alerts(missing: Sequence[Trial], total: int) -> list[str]:
    if not missing:
        return []
    names = "; ".join(map(str, missing[:4])) + ("; …" if len(missing) > 4 else "")
    what = "No run has finished yet" if len(missing) == total else f"{len(missing)} of {total} runs are missing"
    return [f"{what} (failed, or not reached): {names}. The command that began this comparison makes them."]


def _claims(comparison: Comparison) -> Section:
    path = comparison.folder / CLAIMS
    if path.is_file():
        text = re.sub(r"\A\s*# .*\n", "", path.read_text(encoding="utf-8"))  # the section has a title of its own
        return Section("The paper’s claims", html=[markdown(text)])
    said = comparison.claims() if len(comparison.results) else []
    lead = "" if said else "Nothing can be said before the first run has finished."
    return Section("The paper’s claims", lead=lead, claims=[split_claim(sentence) for sentence in said])


def _scores(comparison: Comparison) -> Table:
    outline, results = comparison.outline, comparison.results
    made = cells(outline, results)
    columns = [Cell("N"), *(Cell(label, colour=_colour(label, outline.labels)) for label in outline.labels)]
    rows = []
    for n in outline.workers:
        row = [Cell(str(n), n)]
        for label in outline.labels:
            cell = made[n, label]
            diverged = bool(cell.n) and cell.diverged == cell.n
            title = f"{cell.diverged} of {cell.n} runs diverged" if cell.diverged else ""
            row.append(
                Cell(cell.text, _value(cell.mean), "best" if cell.best else "bad" if diverged else "", title=title)
            )
        rows.append(row)
    best = ["Best of each row in bold."] if any(cell.best for cell in made.values()) else []
    notes = [f"{caption(outline, results)}.", *best, *footnotes(outline, results)]
    return Table("Final scores by method and number of workers", columns, rows, notes)


def _runs(comparison: Comparison) -> Table:
    rows = []
    labels = [*comparison.outline.labels]
    for record in comparison.results.to_dict("records"):
        row = [Cell(str(record["method"]), record["method"], colour=_colour(str(record["method"]), labels))]
        row += [Cell(_short(record[name]), _value(record[name])) for name in list(_COLUMNS)[1:]]
        if record["diverged"]:
            row[3] = Cell(f"{row[3].text}†", row[3].value, "bad", "diverged")
        rows.append(row)
    notes = ["speed-up: over synchronous training on the same clock. † diverged. Means are over the gradients used."]
    return Table("Every run", [Cell(title) for title in _COLUMNS.values()], rows, notes)


def _settings(comparison: Comparison, records: Mapping[Trial, Mapping[str, Any]], missing: Sequence[Trial]) -> Section:
    """What all runs share once, and what is a run's own under its name; machine and versions are among them."""
    configs = {trial: flat(record["config"]) for trial, record in records.items()}
    every = list(configs.values())
    shared = {k: v for k, v in every[0].items() if all(c.get(k) == v for c in every)} if every else {}
    folded = [
        (
            f"{trial}{_end(records[trial])}",
            {k: v for k, v in config.items() if k not in shared} | _times(records[trial]),
        )
        for trial, config in configs.items()
    ]
    folded += [(f"{trial} – missing", {"status": "it failed, or was not reached"}) for trial in missing]
    lead = f"What all {len(every)} runs share; below, what is each run’s own." if every else "No run has finished yet."
    return Section(
        "Configuration and machine", lead=lead, pairs=shared or flat(comparison.outline.settings), folded=folded
    )


def _end(record: Mapping[str, Any]) -> str:
    summary = record["summary"]
    return f" – {_short(summary['score'])}{', diverged' if summary['diverged'] else ''}"


def _times(record: Mapping[str, Any]) -> dict[str, str]:
    summary = record["summary"]
    return {
        name: _short(summary[name])
        for name in ("status", "pushes", "nonfinite", "extreme", "seconds")
        if name in summary
    }


def _extras(folder: Path) -> list[Section]:
    """Other tables and pictures that lie in the folder, such as those of a reproduction."""
    texts = [path for path in sorted(folder.glob("*.md")) if path.name not in (CLAIMS, "table.md")]
    made = [Section(_name(path), html=[markdown(path.read_text(encoding="utf-8"))]) for path in texts]
    found = {path.stem: picture(path) for path in sorted(folder.glob("*.png")) if path.name not in _DRAWN}
    pictures = [(name, data) for name, data in found.items() if data]
    return made + ([Section("Further pictures", pictures=pictures)] if pictures else [])


def _name(path: Path) -> str:
    return path.stem.replace("_", " ").replace("-", " ").capitalize()


def _colour(label: str, labels: Sequence[str]) -> str:
    return str(look(label, labels if label in labels else [*labels, label])["color"])


def _value(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _short(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return MISSING
    return f"{value:.4g}" if isinstance(value, float) else str(value)


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
