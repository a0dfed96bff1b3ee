"""What every benchmark shares: sides timed in turn, ratios, and a report that carries its birth certificate."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from machine import ROOT, machine

RESULTS = ROOT / "benchmarks" / "results"
WIDTH = 80

Row = dict[str, object]
median = statistics.median


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every script has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--quick", action="store_true", help="a smaller run, to see that it works")
    options.add_argument("--save", action="store_true", help="write benchmarks/results/NAME.json and NAME.md")
    return options


def alternate(sides: dict[str, Callable[[], float | None]], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Each side's seconds per round: what it returns, or else the wall time of the call. Every other round backwards.

    Side by side, for a shared machine's speed drifts by more than what is to be measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(-warmup, rounds):
        for name in sides if turn % 2 == 0 else reversed(sides):
            started = time.perf_counter()
            told = sides[name]()
            took = time.perf_counter() - started
            if turn >= 0:
                seconds[name].append(took if told is None else told)
    return seconds


def seconds_of(action: Callable[[], object], times: int) -> Callable[[], float]:
    """Seconds per call, over so many."""

    def repeat() -> float:
        started = time.perf_counter()
        for _ in range(times):
            action()
        return (time.perf_counter() - started) / times

    return repeat


def ratio(slow: list[float], fast: list[float]) -> dict[str, float]:
    """How many times longer ``slow`` took: the median over the rounds, the least and the most."""
    each = [s / f for s, f in zip(slow, fast, strict=True)]
    return {"ratio": median(each), "low": min(each), "high": max(each)}


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many torch threads; then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def report(name: str, question: str, rows: list[Row], *, settings: Row) -> None:
    """Print a table and where it comes from; with ``--save`` keep both. A row's “raw …” goes to the JSON alone."""
    about = machine()
    cells = [[title for title in rows[0] if not title.startswith("raw")]]
    cells += [[_text(row[title]) for title in cells[0]] for row in rows]
    certificate = [f"{key}: {_text(value)}" for key, value in (settings | about).items()]
    print(f"\n{question}\n\n{_table(cells)}\n")
    for line in certificate:
        print(textwrap.fill(line, WIDTH, subsequent_indent="  "))
    if "--save" not in sys.argv:
        return
    RESULTS.mkdir(exist_ok=True)
    document = {"question": question, "rows": rows, "settings": settings, "machine": about}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
    lines = [f"| {' | '.join(row)} |" for row in cells]
    table = "\n".join([lines[0], "|" + " --- |" * len(cells[0]), *lines[1:]])
    told = "\n".join(f"- {line}" for line in certificate)
    (RESULTS / f"{name}.md").write_text(f"# {name}\n\n{question}\n\n{table}\n\n{told}\n", encoding="utf-8")


def _text(value: object) -> str:
    """Three digits of a number; a ratio with its largest deviation."""
    if isinstance(value, dict) and "ratio" in value:
        most = max(value["high"] - value["ratio"], value["ratio"] - value["low"]) / value["ratio"]
        return f"{value['ratio']:.3g} ±{100 * most:.0f}%"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _table(cells: Sequence[Sequence[str]]) -> str:
    """Aligned columns; titles are broken between words."""
    widths = [max(map(len, (*column[0].split(), *column[1:]))) for column in zip(*cells, strict=True)]
    titles = [textwrap.wrap(title, width) for title, width in zip(cells[0], widths, strict=True)]
    height = max(map(len, titles))
    head = zip(*([""] * (height - len(lines)) + lines for lines in titles), strict=True)
    lines = [*head, ["-" * width for width in widths], *cells[1:]]
    return "\n".join(
        " ".join(t.rjust(w) if n else t.ljust(w) for n, (t, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )
