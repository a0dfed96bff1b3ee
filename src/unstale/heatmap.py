"""The picture of a tuning: score over two of the tuned names, momentum by learning rate if they are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from unstale.experiments.space import Choice, Dimension

if TYPE_CHECKING:
    from unstale.experiments.tuned import Tuning

__all__ = ["heatmap_figure"]

_LEGIBLE = 12  # cells in a row whose values can be read
_MAP = "cividis"
_GREY = "#C8C8C8"


def heatmap_figure(tuning: Tuning) -> Figure:
    """Cells where both names have lists of numbers, else points; a frame or ring marks the best trial.

    Grey and hatched (or a grey cross): diverged. Dotted (or hollow): pruned; the score is that of its last evaluation.
    """
    x, y = _names(list(tuning.space))
    figure = Figure(figsize=(8.0, 5.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Axes = figure.subplots()
    figure.suptitle(tuning.title, fontsize=12)
    rows = tuning.trials[tuning.trials["state"].isin(["finished", "pruned"])]
    rows = rows.assign(dead=(rows["diverged"] >= rows["seeds"]) | ~np.isfinite(rows["score"]))
    alive = rows.loc[~rows["dead"], "score"]
    norm = Normalize(float(alive.min()), float(alive.max())) if len(alive) else Normalize(0, 1)
    if y is not None and len(tuning.space) == 2 and _is_listed(tuning.space[x]) and _is_listed(tuning.space[y]):
        _draw_cells(axes, tuning, rows, x, y, norm)
    else:
        _draw_points(axes, tuning, rows, x, y, norm)
    score = str(tuning.about["task"].get("score_name", "score"))
    unit = " (%)" if score == "accuracy" else ""
    if y is not None:
        figure.colorbar(_mappable(norm), ax=axes, label=f"test {score}{unit}", shrink=0.9)
    axes.set_xlabel(_title(x))
    axes.set_ylabel(f"test {score}{unit}" if y is None else _title(y))
    return figure


def _names(names: Sequence[str]) -> tuple[str, str | None]:
    x = "lr" if "lr" in names else names[0]
    rest = [name for name in names if name != x]
    return x, ("momentum" if "momentum" in rest else rest[0]) if rest else None


def _title(name: str) -> str:
    return {"lr": "learning rate η", "momentum": "momentum γ"}.get(name, name.replace("_", " "))


def _is_listed(dimension: Dimension) -> bool:
    return isinstance(dimension, Choice)


def _mappable(norm: Normalize) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(norm, _MAP)


def _draw_cells(axes: Axes, tuning: Tuning, rows: pd.DataFrame, x: str, y: str, norm: Normalize) -> None:
    """Cells of one size; a learning rate's are equal steps of its logarithm, as in the grid."""
    columns, lines = (sorted(_values(tuning, name), key=_order) for name in (x, y))
    legible = len(columns) <= _LEGIBLE and len(lines) <= _LEGIBLE
    mappable = _mappable(norm)
    for row in rows.to_dict("records"):
        at = columns.index(row[x]), lines.index(row[y])
        dead, pruned = bool(row["dead"]), row["state"] == "pruned"
        face = _GREY if dead else mappable.to_rgba(row["score"])
        hatch = "////" if dead else ".." if pruned else None
        axes.add_patch(_cell(at, facecolor=face, edgecolor="white", hatch=hatch, linewidth=0.8))
        if legible:
            dark = dead or _luminance(face) > 0.45
            text = "†" if dead else f"{row['score']:.3g}" + (f"†{row['diverged']}" if row["diverged"] else "")
            axes.text(*at, text, ha="center", va="center", fontsize=8, color="black" if dark else "white")
    if tuning.best is not None:
        at = columns.index(tuning.best[x]), lines.index(tuning.best[y])
        axes.add_patch(_cell(at, fill=False, edgecolor="#D55E00", linewidth=2.6, zorder=5, clip_on=False))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, len(lines) - 0.5)
    axes.set_xticks(range(len(columns)), [_short(value) for value in columns])
    axes.set_yticks(range(len(lines)), [_short(value) for value in lines])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    _explain(axes, rows)


def _draw_points(axes: Axes, tuning: Tuning, rows: pd.DataFrame, x: str, y: str | None, norm: Normalize) -> None:
    """A point a trial; without a second name, the score is the height."""
    across = _placed(axes, tuning, rows[x], x, "x")
    up = rows["score"].to_numpy(float) if y is None else _placed(axes, tuning, rows[y], y, "y")
    dead, pruned = rows["dead"].to_numpy(bool), (rows["state"] == "pruned").to_numpy(bool)
    colours = _mappable(norm).to_rgba(rows["score"].fillna(0.0).to_numpy(float))
    full, hollow = ~dead & ~pruned, ~dead & pruned
    axes.scatter(across[full], up[full], color=colours[full], s=42, edgecolor="white", linewidth=0.6)
    axes.scatter(across[hollow], up[hollow], facecolor="none", edgecolor=colours[hollow], s=34)
    axes.scatter(across[dead], np.nan_to_num(up[dead], posinf=np.nan, neginf=np.nan), color="#888888", marker="x", s=30)
    if tuning.best is not None:
        at = (rows["trial"] == tuning.best["trial"]).to_numpy(bool)
        axes.scatter(across[at], up[at], facecolor="none", edgecolor="#D55E00", s=150, linewidth=2.2, zorder=5)
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    _explain(axes, rows)


def _placed(axes: Axes, tuning: Tuning, values: pd.Series[Any], name: str, side: str) -> Any:
    """Where values lie on an axis: numbers where they are, words in a row."""
    dimension = tuning.space[name]
    listed = _values(tuning, name)
    axis = axes.xaxis if side == "x" else axes.yaxis
    if any(isinstance(value, str | bool) for value in listed):
        axis.set_major_locator(FixedLocator(list(range(len(listed)))))
        axis.set_major_formatter(lambda at, _: str(listed[round(at)]) if 0 <= round(at) < len(listed) else "")
        axis.set_minor_locator(NullLocator())
        return np.array([listed.index(value) for value in values], float)
    if getattr(dimension, "log", False) or name == "lr":
        (axes.set_xscale if side == "x" else axes.set_yscale)("log")
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    return values.to_numpy(float)


def _values(tuning: Tuning, name: str) -> list[Any]:
    return list(tuning.space[name].ends)


def _order(value: Any) -> tuple[bool, Any]:
    return (isinstance(value, str), value)


def _cell(at: tuple[int, int], **look: Any) -> Rectangle:
    return Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, **look)


def _luminance(colour: Any) -> float:
    red, green, blue = colour[:3]
    return float(0.3 * red + 0.59 * green + 0.11 * blue)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _explain(axes: Axes, rows: pd.DataFrame) -> None:
    notes = ["orange: best"] if len(rows) else ["no trial has finished yet"]
    notes += ["grey †: diverged, or no better than a constant answer"] if bool(rows["dead"].any()) else []
    notes += ["dotted or hollow: pruned"] if bool((rows["state"] == "pruned").any()) else []
    axes.set_title(";  ".join(notes), fontsize=9, loc="left", color="#555555")
