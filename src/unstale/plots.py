"""Pictures of runs and comparisons: each function gives a matplotlib figure, and touches no global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from unstale.experiments.outline import BASELINE, REFERENCE, Outline

if TYPE_CHECKING:
    from unstale.record import Run

__all__ = ["appearance", "curves_figure", "gap_figure", "is_wide", "run_figure", "scores_figure"]

# Okabe and Ito's palette, told apart by colour-blind readers, with a marker of its own for each method.
_STYLES = {
    "asgd": ("#56B4E9", "s"),
    "nag_asgd": ("#E69F00", "v"),
    "sa": ("#CC79A7", "D"),
    "ga": ("#0072B2", "o"),
    "dana": ("#D55E00", "^"),
    "dana_sa": ("#8A7A00", "P"),
    "dana_ga": ("#009E73", "*"),
    "sync": ("#555555", "X"),
}
_OTHERS = (("#882255", "h"), ("#332288", "p"), ("#117733", "<"), ("#999933", ">"), ("#661100", "d"), ("#44AA99", "8"))
_MARKER_SIZE = {"*": 11}
_BASELINE = "#000000"


def scores_figure(outline: Outline, results: pd.DataFrame) -> Figure:
    """Score against the number of workers, a line a method, with standard deviations; the baseline as a dashed line.

    Points where a run diverged are hollow.
    """
    figure, (axes,) = _figure(outline, "final scores")
    _draw_baseline(axes, results)
    labels = list(outline.labels)
    for position, label in enumerate(labels):
        rows = results[(results["method"] == label) & results["workers"].isin(outline.workers)].groupby("workers")
        if not len(rows):
            continue
        mean, std = rows["score"].mean(), rows["score"].std().fillna(0.0)
        # A small sideways step for each method, lest error bars hide one another.
        places = mean.index.to_numpy() * 2.0 ** (0.05 * (position - (len(labels) - 1) / 2))
        look = appearance(label, labels)
        axes.errorbar(places, mean, yerr=std, label=label, capsize=3, **look)
        hollow = rows["diverged"].any().to_numpy()
        axes.plot(places[hollow], mean[hollow], **{**look, "linestyle": "", "markerfacecolor": "white", "zorder": 5})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(outline.workers)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    _fit(axes, outline, results["score"])
    axes.set_xlabel("workers N")
    axes.set_ylabel(f"test {outline.score_name}")
    _legend_beside(axes, "hollow: a run diverged" if bool(results["diverged"].any()) else None)
    return figure


def gap_figure(outline: Outline, epochs: pd.DataFrame) -> Figure:
    """Per-epoch mean delay and normalised gap at the largest number of workers (figure C.8 of Barkai et al. 2020)."""
    figure, (axes,) = _figure(outline, f"staleness in each epoch, N = {outline.largest}")
    labels = list(dict.fromkeys(epochs["method"]))
    for position, label in enumerate(labels):
        rows = epochs[epochs["method"] == label]
        if not position:  # the clock decides the delay: the same for all methods
            axes.plot(rows["epoch"] + 1, rows["delay"], color=_BASELINE, linestyle="--", label="delay")
        look = {**appearance(label, labels), "markevery": max(1, len(rows) // 10)}
        axes.plot(rows["epoch"] + 1, rows["normalised_gap"], label=f"normalised gap, {label}", **look)
    if len(epochs) and bool((epochs[["delay", "normalised_gap"]] > 0).any().any()):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("epoch")
    axes.set_ylabel("pushes (delay), average steps (gap)")
    _legend_beside(axes)
    return figure


def curves_figure(outline: Outline, curves: pd.DataFrame, results: pd.DataFrame) -> Figure:
    """Score over simulated time at the largest number of workers, synchronous training beside the methods."""
    figure, (axes,) = _figure(outline, f"score over simulated time, N = {outline.largest}")
    _draw_baseline(axes, results)
    labels = list(dict.fromkeys(curves["method"]))
    for label in labels:
        rows = curves[curves["method"] == label]
        look = {**appearance(label, labels), "markevery": max(1, len(rows) // 8)}
        axes.plot(
            rows["time"], rows["score"], label=label, **{**look, **({"linestyle": ":"} if label == REFERENCE else {})}
        )
        low, high = rows["score"] - rows["spread"], rows["score"] + rows["spread"]
        axes.fill_between(rows["time"], low, high, color=look["color"], alpha=0.12, linewidth=0)
    _fit(axes, outline, curves["score"])
    axes.set_xlabel("simulated time (1 = mean time of one gradient)")
    axes.set_ylabel(f"test {outline.score_name}")
    axes.set_xlim(left=0)
    _legend_beside(axes)
    return figure


def run_figure(run: Run) -> Figure:
    """Loss, score, delay and normalised gap of one run over its progress."""
    task, history = run.config.get("task"), run.history
    name = task.get("score_name", "score") if isinstance(task, dict) else "score"
    figure, panels = _panels(_run_title(run), rows=3)
    epochs = history["progress"]
    _draw_smooth(panels[0], epochs, history["loss"], "#0072B2", "training loss")
    panels[0].plot(run.evaluations["progress"], run.evaluations["loss"], color="#D55E00", label="test loss", marker=".")
    panels[1].plot(run.evaluations["progress"], run.evaluations["score"], color="#009E73", marker=".", label=str(name))
    _draw_smooth(panels[2], epochs, history["delay"], _BASELINE, "delay (pushes)")
    _draw_smooth(panels[2], epochs, history["normalised_gap"], "#0072B2", "normalised gap (average steps)")
    for axes, label in zip(panels, ("loss", f"test {name}", "staleness"), strict=True):
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=9, loc="best")
    _log_if_wide(panels[0], history["loss"])
    _log_if_wide(panels[2], history["normalised_gap"])
    panels[-1].set_xlabel("epochs")
    return figure


def _run_title(run: Run) -> str:
    task, method = run.config.get("task"), run.config.get("method")
    subject = f"{task.get('name')} / {task.get('model_name')}" if isinstance(task, dict) else "run"
    named = method.get("name", "custom") if isinstance(method, dict) else method
    end = ", diverged" if run.diverged else ""
    return f"{subject}: {named}, N = {run.config.get('workers')}, seed {run.config.get('seed')}{end}"


def _figure(outline: Outline, what: str) -> tuple[Figure, list[Axes]]:
    return _panels(f"{outline.subject}: {what} ({outline.seed_count})", rows=1)


def _panels(title: str, rows: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(8.0, 4.8 if rows == 1 else 2.4 * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels: list[Axes] = list(np.atleast_1d(figure.subplots(rows, 1, sharex=True)))
    figure.suptitle(title, fontsize=12)
    for axes in panels:
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def appearance(label: str, labels: Sequence[str]) -> dict[str, Any]:
    """A method's colour and marker: the published ones always have the same."""
    strangers = [name for name in labels if name not in _STYLES]
    colour, marker = _STYLES[label] if label in _STYLES else _OTHERS[strangers.index(label) % len(_OTHERS)]
    return {"color": colour, "marker": marker, "markersize": _MARKER_SIZE.get(marker, 6), "linewidth": 1.6}


def _draw_baseline(axes: Axes, results: pd.DataFrame) -> None:
    scores = results[(results["method"] == BASELINE) & (results["workers"] == 1)]["score"]
    if not len(scores):
        return
    mean, std = scores.mean(), scores.std() if len(scores) > 1 else 0.0
    axes.axhline(mean, color=_BASELINE, linestyle="--", linewidth=1.2, label=f"baseline ({BASELINE}, N = 1)", zorder=1)
    axes.axhspan(mean - std, mean + std, color=_BASELINE, alpha=0.08, linewidth=0)


def _fit(axes: Axes, outline: Outline, scores: pd.Series[float]) -> None:
    """Percentages end at 0 and 100, whatever an error bar says; what may be as large as it likes gets a log scale."""
    if outline.score_name.endswith("(%)"):
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -2.0), min(high, 102.0))
    elif not outline.higher_is_better:
        _log_if_wide(axes, scores)


def _draw_smooth(axes: Axes, x: pd.Series[float], y: pd.Series[float], colour: str, label: str) -> None:
    """The values in the background, their running mean in front."""
    window = max(1, len(y) // 60)
    axes.plot(x, y, color=colour, alpha=0.18, linewidth=0.6)
    axes.plot(x, y.rolling(window, min_periods=1).mean(), color=colour, linewidth=1.6, label=label)


def _log_if_wide(axes: Axes, values: pd.Series[float]) -> None:
    if is_wide(values):
        axes.set_yscale("log")


def is_wide(values: pd.Series[float]) -> bool:
    """Whether values spread over so many magnitudes that only a logarithmic axis shows them."""
    positive = values[np.isfinite(values) & (values > 0)]
    return bool(len(positive) and positive.quantile(0.99) > 100 * positive.quantile(0.01))


def _legend_beside(axes: Axes, title: str | None = None) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            title=title, title_fontsize=9, fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5)
        )
