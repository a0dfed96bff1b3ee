"""The page of table 1: tuned ASGD against untuned methods, a line a workload."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from unstale.experiments.table1 import TUNING, Table1, Workload
from unstale.report.charts import Chart, curves_chart, renamed
from unstale.report.compared import heads, made, scored
from unstale.report.page import Cell, Page, Section, Table, picture, split_claim
from unstale.report.reproduced import differs
from unstale.report.runs import alerts, runs_table, settings

__all__ = ["table1_page"]


def table1_page(folder: Path) -> Page:
    """From what is stored; unfinished ones too. Raises `StoreError` if it is damaged."""
    own = Table1.load(folder)
    every = list(own.parts.items())
    outline = every[0][1].whole.outline
    return Page(
        title=f"{own.title}, reproduced",
        subtitle=f"{len(every)} workloads on {outline.largest} workers, {outline.seed_count}",
        facts={name: str(part.best) for name, part in every},
        alerts=[f"{name}: {alert}" for name, part in every for alert in _alerts(part)],
        sections=[
            _claims(own),
            Section("Final scores", tables=[_scores(own)]),
            Section("In time", charts=[_curves(name, part) for name, part in every]),
            differs([f"{name}: {line}" for name, part in every for line in part.whole.differences]),
            *_tunings(own),
            Section("Every run", tables=[runs_table(part.whole.comparison, name) for name, part in every]),
            *(settings(part.untuned.comparison, f"Configuration and machine: {name}") for name, part in every),
        ],
        made=made(outline),
    )


def _claims(own: Table1) -> Section:
    """Claim 6 alone, a card a workload; claims.md has them all."""
    cards = []
    for line in own.claims():
        name, _, sentence = line.partition(": ")
        card = split_claim(sentence)
        cards.append({**card, "name": f"{name}, {card['name']}"})
    return Section("The paper’s claim", lead="" if cards else "Nothing can be said yet.", claims=cards)


def _scores(own: Table1) -> Table:
    rows = [[Cell(name, name), *scored(cells, own.labels)] for name, cells in own.rows]
    notes = ["Best of each row in bold.", *own.notes()]
    return Table("Final scores by workload and method", [Cell("workload"), *heads(own.labels)], rows, notes)


def _curves(name: str, part: Workload) -> Chart:
    return renamed(curves_chart(part.whole.outline, part.curves, part.whole.comparison.results), name)


def _tunings(own: Table1) -> Iterator[Section]:
    """The heat maps that there are."""
    found = {name: picture(own.folder / name / TUNING / "heatmap.png") for name in own.parts}
    pictures = [(name, data) for name, data in found.items() if data]
    if pictures:
        yield Section("Score over momentum and learning rate", pictures=pictures)


def _alerts(part: Workload) -> list[str]:
    tuned = [] if part.tuned is None else alerts(part.tuned)
    return [*alerts(part.untuned.comparison), *tuned]
