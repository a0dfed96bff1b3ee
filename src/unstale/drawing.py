"""What all pictures share: the methods' colours and markers, panels, legends, axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from unstale.experiments.outline import Outline

__all__ = [
    "BLACK",
    "as_percent",
    "draw_baseline",
    "draw_scores",
    "draw_smooth",
    "fit",
    "is_wide",
    "legend_beside",
    "log_if_wide",
    "look",
    "panels",
]

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
    "sync_adam": ("#555555", "X"),
}
_OTHERS = (("#882255", "h"), ("#332288", "p"), ("#117733", "<"), ("#999933", ">"), ("#661100", "d"), ("#44AA99", "8"))
_MARKER_SIZE = {"*": 11}
BLACK = "#000000"


def panels(title: str, rows: int = 1, columns: int = 1, sharey: bool = True) -> tuple[Figure, list[Axes]]:
    """A figure with a title, and its axes: rows share x, columns share y if asked to."""
    width = 8.0 if columns == 1 else min(16.0, 3.0 + 4.2 * columns)
    figure = Figure(figsize=(width, 4.8 if rows == 1 else 2.4 * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    made: list[Axes] = list(np.ravel(figure.subplots(rows, columns, sharex=rows > 1, sharey=sharey and columns > 1)))
    figure.suptitle(title, fontsize=12)
    for axes in made:
        axes.grid(visible=True, alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, made


def look(label: str, labels: Sequence[str]) -> dict[str, Any]:
    """A method's colour and marker: the published ones always have the same."""
    strangers = [name for name in labels if name not in _STYLES]
    colour, marker = _STYLES[label] if label in _STYLES else _OTHERS[strangers.index(label) % len(_OTHERS)]
    return {"color": colour, "marker": marker, "markersize": _MARKER_SIZE.get(marker, 6), "linewidth": 1.6}


def draw_baseline(axes: Axes, scores: pd.Series[float], label: str) -> None:
    """A dashed line at the mean, a band of one standard deviation."""
    if not len(scores):
        return
    mean, std = scores.mean(), scores.std() if len(scores) > 1 else 0.0
    axes.axhline(mean, color=BLACK, linestyle="--", linewidth=1.2, label=f"baseline ({label}, N = 1)", zorder=1)
    axes.axhspan(mean - std, mean + std, color=BLACK, alpha=0.08, linewidth=0)


def draw_scores(axes: Axes, points: pd.DataFrame, labels: Sequence[str]) -> None:
    """A line a method over the numbers of workers. ``points``: method, workers, mean, std, diverged (then hollow)."""
    counts = sorted(set(points["workers"]))
    # A small sideways step for each method, lest error bars hide one another; none reaches the next number of workers.
    room = float(np.min(np.diff(np.log2(counts)), initial=np.inf))
    step = min(0.05, 0.6 * room / len(labels)) if len(labels) else 0.0
    for position, label in enumerate(labels):
        rows = points[points["method"] == label].sort_values("workers")
        if not len(rows):
            continue
        places = rows["workers"].to_numpy() * 2.0 ** (step * (position - (len(labels) - 1) / 2))
        style, mean, hollow = look(label, labels), rows["mean"].to_numpy(), rows["diverged"].to_numpy(dtype=bool)
        axes.errorbar(places, mean, yerr=rows["std"].fillna(0.0), label=label, capsize=3, **style)
        axes.plot(places[hollow], mean[hollow], **{**style, "linestyle": "", "markerfacecolor": "white", "zorder": 5})
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    if len(counts) > 7:
        axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("workers N")


def as_percent(axes: Axes) -> None:
    """Percentages end at 0 and 100, whatever an error bar says."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -2.0), min(high, 102.0))


def fit(axes: Axes, outline: Outline, scores: pd.Series[float]) -> None:
    """Percentages end at 0 and 100; what may be as large as it likes gets a log scale."""
    if outline.score_name.endswith("(%)"):
        as_percent(axes)
    elif not outline.higher_is_better:
        log_if_wide(axes, scores)


def draw_smooth(axes: Axes, x: pd.Series[float], y: pd.Series[float], colour: str, label: str) -> None:
    """The values in the background, their running mean in front."""
    window = max(1, len(y) // 60)
    axes.plot(x, y, color=colour, alpha=0.18, linewidth=0.6)
    axes.plot(x, y.rolling(window, min_periods=1).mean(), color=colour, linewidth=1.6, label=label)


def log_if_wide(axes: Axes, values: pd.Series[float], *, nonpositive: str = "clip") -> None:
    """A logarithmic axis, where only that shows them. ``nonpositive``: as of `matplotlib.scale.LogScale`."""
    if is_wide(values):
        axes.set_yscale("log", nonpositive=nonpositive)


def is_wide(values: pd.Series[float]) -> bool:
    """Whether values spread over so many magnitudes that only a logarithmic axis shows them."""
    positive = values[np.isfinite(values) & (values > 0)]
    return bool(len(positive) and positive.quantile(0.99) > 100 * positive.quantile(0.01))


def legend_beside(axes: Axes, title: str | None = None) -> None:
    """To the right of the axes, if there is anything to name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            title=title, title_fontsize=9, fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5)
        )
