"""One HTML file that shows a folder of results: tables that sort, pictures that answer, and how every run was made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from unstale import checks
from unstale.errors import StoreError
from unstale.experiments.kinds import kind_of
from unstale.report.compared import comparison_page
from unstale.report.page import Page, render
from unstale.report.reproduced import reproduction_page
from unstale.report.table1 import table1_page
from unstale.report.tried import tuning_page
from unstale.storage import written

__all__ = ["REPORT", "report"]

REPORT = "report.html"
_PAGES: Mapping[str | None, Callable[[Path], Page]] = {
    "comparison": comparison_page,
    "reproduction": reproduction_page,
    "table1": table1_page,
    "tuning": tuning_page,
}


def report(folder: str | Path) -> Path:
    """Write report.html into a folder that compare, tune or reproduce has written, finished or not.

    The file needs nothing else: no network, no other file. Raises `StoreError` if the folder holds none of these, or
    something damaged, or cannot be written.
    """
    folder = checks.path("folder", folder)
    kind = kind_of(folder)
    if kind not in _PAGES:
        raise StoreError(
            f"{folder} holds no comparison, tuning or reproduction; "
            "pass a folder that compare, tune or reproduce has written"
        )
    page = render(_PAGES[kind](folder))
    with written(folder) as new:
        (new / REPORT).write_text(page, encoding="utf-8")
    return folder / REPORT
