"""One HTML file that shows a folder of results: tables that sort, pictures that answer, and how every run was made."""

from __future__ import annotations

from pathlib import Path

from unstale.errors import StoreError
from unstale.experiments.store import COMPARISON
from unstale.experiments.tuned import TUNING
from unstale.report.page import Page, render
from unstale.storage import written

__all__ = ["REPORT", "report"]

REPORT = "report.html"


def report(folder: str | Path) -> Path:
    """Write report.html into a folder that `unstale.compare` or `unstale.tune` has written, finished or not.

    The file needs nothing else: no network, no other file. Raises `StoreError` if the folder holds neither, or
    something damaged, or cannot be written.
    """
    folder = Path(folder)
    with written(folder) as new:
        (new / REPORT).write_text(render(_page(folder)), encoding="utf-8")
    return folder / REPORT


def _page(folder: Path) -> Page:
    if (folder / COMPARISON).exists():
        from unstale.report.compared import comparison_page

        return comparison_page(folder)
    if (folder / TUNING).exists():
        from unstale.report.tried import tuning_page

        return tuning_page(folder)
    raise StoreError(f"{folder} holds no comparison and no tuning; pass a folder that compare or tune has written")
