"""The pictures of a comparison as plain values, for the page's own script to draw; the same ones as in plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from unstale.drawing import is_wide, look
from unstale.experiments.outline import Outline
from unstale.experiments.results import baseline_scores

__all__ = ["Chart", "curves_chart", "gap_chart", "gap_charts", "paper_chart", "renamed", "scores_chart"]

Chart = dict[str, Any]


def scores_chart(outline: Outline, results: pd.DataFrame) -> Chart:
    """Final score against the number of workers."""
    series = []
    for label in outline.labels:
        rows = results[(results["method"] == label) & results["workers"].isin(outline.workers)].groupby("workers")
        points = [
            _point(n, r["score"].mean(skipna=False), r["score"].std(), hollow=bool(r["diverged"].any()), n=len(r))
            for n, r in rows
        ]
        series.append(_series(label, outline.labels, points))
    return {
        "id": "scores",
        "title": "Score against the number of workers",
        "note": f"Mean and standard deviation over {outline.seed_count}. Hollow: a run diverged.",
        "x": {"label": "workers N", "log": True, "ticks": list(outline.workers), "name": "N"},
        "y": _score_axis(outline, results["score"]),
        "series": series,
        "level": _baseline(outline, results),
    }


def paper_chart(labels: Sequence[str], table: pd.DataFrame) -> Chart:
    """The paper's own final scores: rows of one of `unstale.experiments.paper.tables`."""
    series = []
    for label in labels:
        rows = table[table["method"] == label]
        columns = rows[["workers", "test_accuracy_mean", "test_accuracy_std", "diverged"]].itertuples(index=False)
        series.append(_series(label, labels, [_point(n, mean, std, bool(lost)) for n, mean, std, lost in columns]))
    counts = sorted({int(n) for n in table["workers"]})
    first = table.iloc[0]
    return {
        "id": "paper",
        "title": f"The paper: {first['dataset']} / {first['model']}",
        "note": "Mean and standard deviation as printed there. Hollow: diverged.",
        "x": {"label": "workers N", "log": True, "ticks": counts, "name": "N"},
        "y": {"label": "test accuracy (%)", "log": False, "most": 100.0},
        "series": series,
        "level": {"name": "baseline, one worker", "y": float(first["baseline_accuracy"]), "s": 0.0},
    }


def curves_chart(outline: Outline, curves: pd.DataFrame, results: pd.DataFrame) -> Chart:
    """Score over simulated time, at the largest number of workers."""
    labels = list(dict.fromkeys(curves["method"]))
    series = []
    for label in labels:
        rows = curves[curves["method"] == label]
        points = [_point(*row) for row in rows[["time", "score", "spread"]].itertuples(index=False)]
        series.append(_series(label, outline.labels, points, dashed=label == outline.reference_label))
    return {
        "id": "curves",
        "title": f"Score over simulated time, N = {outline.largest}",
        "note": "Synchronous training is dotted. 1 is the mean time of one gradient.",
        "x": {"label": "simulated time", "log": False, "name": "time"},
        "y": _score_axis(outline, curves["score"]),
        "series": series,
        "level": _baseline(outline, results),
    }


def gap_charts(outline: Outline, epochs: pd.DataFrame) -> list[Chart]:
    """A picture of delay and normalised gap for each number of workers there is; of the largest, if there is none."""
    counts = sorted(set(epochs["workers"])) or [outline.largest]
    return [gap_chart(outline, epochs[epochs["workers"] == n], int(n)) for n in counts]


def gap_chart(outline: Outline, epochs: pd.DataFrame, workers: int | None = None) -> Chart:
    """Delay and normalised gap in each epoch, means over seeds; at the largest number of workers, or another one."""
    labels = list(dict.fromkeys(epochs["method"]))
    series: list[Chart] = []
    for label in labels:
        means = epochs[epochs["method"] == label].groupby("epoch")[["delay", "normalised_gap"]].mean()
        if not series:  # the clock decides the delay: the same for all methods
            delays = [_point(e + 1, d) for e, d in means["delay"].items()]
            series.append({"name": "delay", "colour": "", "marker": "", "dashed": True, "points": delays})
        gaps = [_point(e + 1, g) for e, g in means["normalised_gap"].items()]
        series.append({**_series(label, outline.labels, gaps), "name": f"gap, {label}"})
    positive = bool((epochs[["delay", "normalised_gap"]] > 0).any().any()) if len(epochs) else False
    n = workers or outline.largest
    return {
        "id": f"gaps-{n}",
        "title": f"Delay and normalised gap, N = {n}",
        "note": "Means over the pushes of an epoch: pushes for the delay, average steps for the gap.",
        "x": {"label": "epoch", "log": False, "name": "epoch"},
        "y": {"label": "staleness", "log": positive},
        "series": series,
        "level": None,
    }


def renamed(chart: Chart, name: str) -> Chart:
    """The same picture of one of several workloads: no two on a page may have one id."""
    return {**chart, "id": f"{chart['id']}-{name}", "title": f"{name}: {chart['title']}"}


def _series(label: str, labels: Sequence[str], points: Iterable[Any], dashed: bool = False) -> dict[str, Any]:
    style = look(label, labels if label in labels else [*labels, label])
    return {
        "name": label,
        "colour": style["color"],
        "marker": style["marker"],
        "dashed": dashed,
        "points": list(points),
    }


def _point(x: Any, y: Any, spread: Any = None, hollow: bool = False, n: int = 1) -> dict[str, Any]:
    point = {"x": float(x), "y": float(y)}
    if spread is not None and not pd.isna(spread):
        point["s"] = float(spread)
    return point | ({"hollow": True} if hollow else {}) | ({"n": n} if n > 1 else {})


def _score_axis(outline: Outline, scores: pd.Series[float]) -> dict[str, Any]:
    percent = outline.score_name.endswith("(%)")
    wide = not percent and not outline.higher_is_better and is_wide(scores)
    return {"label": f"test {outline.score_name}", "log": wide, "most": 100.0 if percent else None}


def _baseline(outline: Outline, results: pd.DataFrame) -> dict[str, Any] | None:
    scores = baseline_scores(outline, results)
    if not len(scores):
        return None
    spread = float(scores.std()) if len(scores) > 1 else 0.0
    return {"name": "baseline, one worker", "y": float(scores.mean(skipna=False)), "s": spread}
