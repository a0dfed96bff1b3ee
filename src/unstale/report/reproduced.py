"""The page of a reproduction: the paper's rows under ours, and its picture beside ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from unstale.experiments import paper
from unstale.experiments.beside import Row
from unstale.experiments.reproduction import Reproduction, load
from unstale.report.charts import curves_chart, gap_charts, paper_chart, scores_chart
from unstale.report.compared import extras, facts, heads, in_time, made, scored, subtitle
from unstale.report.page import Cell, Page, Section, Table, markdown
from unstale.report.runs import alerts, runs_table, settings

__all__ = ["differs", "reproduction_page"]

_EVIDENCE = "Evidence: A read in the authors’ code, T in third-party code, P in the paper; M from memory; O ours."


def reproduction_page(folder: Path) -> Page:
    """From what is stored; unfinished ones too. Raises `StoreError` if it is damaged."""
    own = load(folder)
    comparison, outline = own.comparison, own.outline
    curves = curves_chart(outline, comparison.curves, comparison.results)
    return Page(
        title=f"{own.preset.title}, reproduced",
        subtitle=f"{outline.subject}: {subtitle(outline)}",
        facts=facts(comparison),
        alerts=alerts(comparison),
        sections=[
            _claims(own),
            _scores(own),
            Section(in_time(outline), charts=[curves, *gap_charts(outline, own.epochs)]),
            differs(own.differences),
            *extras(folder),
            Section("Every run", tables=[runs_table(comparison)]),
            settings(comparison),
        ],
        made=made(outline),
    )


def differs(lines: Sequence[str]) -> Section:
    """What was trained otherwise than in the paper."""
    listed = [markdown("\n".join(f"- {line}" for line in lines))] if lines else []
    return Section("What differs from the paper", lead=_EVIDENCE if lines else "Nothing.", html=listed)


def _claims(own: Reproduction) -> Section:
    """Made now: nothing there is older than the runs."""
    return Section("The paper’s claims", html=[markdown(re.sub(r"\A\s*# .*\n", "", own.claims_page()))])


def _scores(own: Reproduction) -> Section:
    outline, number = own.outline, own.preset.table
    theirs = [] if number is None else [paper_chart(outline.labels, paper.table(number))]
    rows = [_row(row, outline.labels) for row in own.rows]
    notes = ["Best of each row in bold.", *own.notes()]
    table = Table(
        "Final scores, the paper’s under ours", [Cell("N"), Cell("whose"), *heads(outline.labels)], rows, notes
    )
    return Section(
        "Final scores, here and in the paper" if theirs else "Final scores",
        tables=[table],
        charts=[scores_chart(outline, own.comparison.results), *theirs],
    )


def _row(row: Row, labels: Sequence[str]) -> list[Cell]:
    mark = "" if row.whose == "here" else row.whose
    return [Cell(str(row.workers), row.workers), Cell(row.whose, row.whose, mark), *scored(row.cells, labels, mark)]
