"""Pictures of runs and comparisons: each function gives a matplotlib figure, and touches no global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unstale.drawing import (
    BLACK,
    as_percent,
    draw_baseline,
    draw_scores,
    draw_smooth,
    fit,
    legend_beside,
    log_if_wide,
    look,
    panels,
)
from unstale.experiments.outline import BASELINE, Outline
from unstale.experiments.results import baseline_scores
from unstale.record import USED

if TYPE_CHECKING:
    from unstale.record import Run

__all__ = [
    "beside_figure",
    "curves_figure",
    "curves_panels",
    "delay_figure",
    "gap_figure",
    "gaps_figure",
    "pushes_figure",
    "run_figure",
    "scores_figure",
    "scores_panels",
]

_HOLLOW = "hollow: a run diverged"


def scores_figure(outline: Outline, results: pd.DataFrame) -> Figure:
    """Score against the number of workers, a line a method, with standard deviations; the baseline as a dashed line.

    Points where a run diverged are hollow.
    """
    figure, (axes,) = _figure(outline, "final scores")
    _draw_ours(axes, outline, results)
    legend_beside(axes, _HOLLOW if bool(results["diverged"].any()) else None)
    return figure


def beside_figure(outline: Outline, results: pd.DataFrame, paper: pd.DataFrame, title: str) -> Figure:
    """The same, with the paper's own numbers in a panel beside: rows of one of `unstale.experiments.paper.tables`."""
    figure, (ours, theirs) = panels(f"{title} ({outline.seed_count} here)", columns=2, sharey=False)
    _draw_ours(ours, outline, results)
    ours.set_title(f"here: {outline.subject}", fontsize=10)
    means = {"test_accuracy_mean": "mean", "test_accuracy_std": "std"}
    draw_baseline(theirs, paper["baseline_accuracy"].iloc[:1], BASELINE)
    draw_scores(theirs, paper.rename(columns=means), list(outline.labels))
    theirs.set_title(f"paper: {paper['dataset'].iloc[0]} / {paper['model'].iloc[0]}", fontsize=10)
    as_percent(theirs)
    legend_beside(theirs, _HOLLOW)
    return figure


def scores_panels(title: str, parts: Sequence[tuple[Outline, pd.DataFrame]]) -> Figure:
    """Final scores of several workloads, each with its results, in a panel each."""
    figure, made = panels(title, columns=len(parts), sharey=False)
    for axes, (outline, results) in zip(made, parts, strict=True):
        _draw_ours(axes, outline, results)
        axes.set_title(f"{outline.subject} ({outline.seed_count})", fontsize=10)
    legend_beside(made[-1], _HOLLOW if any(bool(results["diverged"].any()) for _, results in parts) else None)
    return figure


def _draw_ours(axes: Axes, outline: Outline, results: pd.DataFrame) -> None:
    draw_baseline(axes, baseline_scores(outline, results), outline.baseline_label)
    cells = results[results["workers"].isin(outline.workers)].groupby(["method", "workers"], as_index=False)
    points = cells.agg(mean=("score", "mean"), std=("score", "std"), diverged=("diverged", "any"))
    draw_scores(axes, points[points["method"].isin(outline.labels)], list(outline.labels))
    fit(axes, outline, results["score"])
    axes.set_ylabel(f"test {outline.score_name}")


def gap_figure(outline: Outline, epochs: pd.DataFrame) -> Figure:
    """Per-epoch mean delay and normalised gap at the largest number of workers (figure C.8 of Barkai et al. 2020)."""
    figure, (axes,) = _figure(outline, f"staleness in each epoch, N = {outline.largest}")
    _draw_gaps(axes, epochs)
    axes.set_ylabel("pushes (delay), average steps (gap)")
    legend_beside(axes)
    return figure


def gaps_figure(outline: Outline, epochs: pd.DataFrame) -> Figure:
    """The same in a panel for each number of workers there is."""
    counts = sorted(set(epochs["workers"])) or [outline.largest]
    figure, made = panels(f"{outline.subject}: staleness in each epoch ({outline.seed_count})", columns=len(counts))
    for axes, workers in zip(made, counts, strict=True):
        _draw_gaps(axes, epochs[epochs["workers"] == workers])
        axes.set_title(f"N = {workers}", fontsize=10)
    made[0].set_ylabel("pushes (delay), average steps (gap)")
    legend_beside(made[-1])
    return figure


def pushes_figure(outline: Outline, pushes: pd.DataFrame, workers: int) -> Figure:
    """Each push of a run: its normalised gap over its delay, coloured by progress. ``pushes``: method, progress, …"""
    labels = list(dict.fromkeys(pushes["method"])) or list(outline.labels[:1])
    what = f"every push, N = {workers}, seed {outline.seeds[0]}"
    figure, made = panels(f"{outline.subject}: {what}", columns=len(labels))
    shade = Normalize(0.0, float(pushes["progress"].max()) if len(pushes) else 1.0)
    for axes, label in zip(made, labels, strict=True):
        rows = pushes[(pushes["method"] == label) & (pushes["normalised_gap"] > 0)]
        drawn = axes.scatter(
            rows["delay"], rows["normalised_gap"], c=rows["progress"], norm=shade, cmap="viridis", s=7, alpha=0.6
        )
        end = float(rows["delay"].max()) if len(rows) else 1.0
        line = np.linspace(min(1.0, end), end, 50)
        axes.plot(line, line, color=BLACK, linestyle="--", linewidth=1.2, label="gap = delay")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_title(label, fontsize=10)
        axes.set_xlabel("delay (pushes)")
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    made[0].set_ylabel("normalised gap (average steps)")
    figure.colorbar(drawn, ax=made, label="epochs of training", pad=0.02)
    return figure


def _draw_gaps(axes: Axes, epochs: pd.DataFrame) -> None:
    """Means over seeds."""
    labels = list(dict.fromkeys(epochs["method"]))
    for position, label in enumerate(labels):
        rows = epochs[epochs["method"] == label].groupby("epoch")[["delay", "normalised_gap"]].mean()
        places = rows.index.to_numpy() + 1
        if not position:  # the clock decides the delay: the same for all methods
            axes.plot(places, rows["delay"], color=BLACK, linestyle="--", label="delay")
        style = {**look(label, labels), "markevery": max(1, len(rows) // 10)}
        axes.plot(places, rows["normalised_gap"], label=f"normalised gap, {label}", **style)
    if len(epochs) and bool((epochs[["delay", "normalised_gap"]] > 0).any().any()):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("epoch")


def curves_figure(outline: Outline, curves: pd.DataFrame, results: pd.DataFrame) -> Figure:
    """Score over simulated time at the largest number of workers, synchronous training beside the methods."""
    figure, (axes,) = _figure(outline, f"score over simulated time, N = {outline.largest}")
    _draw_curves(axes, outline, curves, results)
    legend_beside(axes)
    return figure


def curves_panels(title: str, parts: Sequence[tuple[Outline, pd.DataFrame, pd.DataFrame]]) -> Figure:
    """The same for several workloads, each with its curves and results, in a panel each."""
    figure, made = panels(f"{title}: score over simulated time", columns=len(parts), sharey=False)
    for axes, (outline, curves, results) in zip(made, parts, strict=True):
        _draw_curves(axes, outline, curves, results)
        axes.set_title(f"{outline.subject}, N = {outline.largest} ({outline.seed_count})", fontsize=10)
    legend_beside(made[-1])
    return figure


def _draw_curves(axes: Axes, outline: Outline, curves: pd.DataFrame, results: pd.DataFrame) -> None:
    draw_baseline(axes, baseline_scores(outline, results), outline.baseline_label)
    labels = list(dict.fromkeys(curves["method"]))
    for label in labels:
        rows = curves[curves["method"] == label]
        dotted = {"linestyle": ":"} if label == outline.reference_label else {}
        style = {**look(label, labels), "markevery": max(1, len(rows) // 8), **dotted}
        axes.plot(rows["time"], rows["score"], label=label, **style)
        low, high = rows["score"] - rows["spread"], rows["score"] + rows["spread"]
        axes.fill_between(rows["time"], low, high, color=style["color"], alpha=0.12, linewidth=0)
    fit(axes, outline, curves["score"])
    axes.set_xlabel("simulated time (1 = mean time of one gradient)")
    axes.set_ylabel(f"test {outline.score_name}")
    axes.set_xlim(left=0)


def run_figure(run: Run) -> Figure:
    """Loss, score, delay and normalised gap of one run over its progress."""
    task, history = run.config.get("task"), run.history
    name = task.get("score_name", "score") if isinstance(task, dict) else "score"
    scored = len(run.evaluations) > 0  # scripts score what they train themselves
    figure, made = panels(_run_title(run), rows=3 if scored else 2)
    epochs = history["progress"]
    draw_smooth(made[0], epochs, history["loss"], "#0072B2", "training loss")
    if scored:
        seen = run.evaluations
        made[0].plot(seen["progress"], seen["loss"], color="#D55E00", label="test loss", marker=".")
        made[1].plot(seen["progress"], seen["score"], color="#009E73", marker=".", label=str(name))
    draw_smooth(made[-1], epochs, history["delay"].where(history["delay"] >= 0), BLACK, "delay (pushes)")
    draw_smooth(made[-1], epochs, history["normalised_gap"], "#0072B2", "normalised gap (average steps)")
    for axes, label in zip(made, ("loss", *([f"test {name}"] if scored else []), "staleness"), strict=True):
        axes.set_ylabel(label)
        axes.legend(frameon=False, fontsize=9, loc="best")
    log_if_wide(made[0], history["loss"])
    log_if_wide(made[-1], history["normalised_gap"], nonpositive="mask")  # a delay may be 0
    made[-1].set_xlabel("epochs")
    return figure


def delay_figure(run: Run) -> Figure:
    """How often each delay was, among the gradients that were used, and the mean."""
    delays = run.history.loc[run.history["outcome"].isin(USED) & (run.history["delay"] >= 0), "delay"]
    figure, (axes,) = panels(_run_title(run))
    counts = delays.value_counts().sort_index()
    axes.bar(counts.index.to_numpy(), counts.to_numpy(), width=0.9, color="#0072B2", alpha=0.8)
    if len(delays):
        axes.axvline(delays.mean(), color=BLACK, linestyle="--", linewidth=1.2, label=f"mean {delays.mean():.1f}")
        axes.legend(frameon=False, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("delay (pushes)")
    axes.set_ylabel("gradients used")
    return figure


def _run_title(run: Run) -> str:
    task, method = run.config.get("task"), run.config.get("method")
    subject = f"{task.get('name')} / {task.get('model_name')}" if isinstance(task, dict) else "scripts of your own"
    named = method.get("name", "custom") if isinstance(method, dict) else method
    seed = f", seed {run.config['seed']}" if "seed" in run.config else ""  # what scripts draw is their own affair
    return f"{subject}: {named}, N = {run.config.get('workers')}{seed}{', diverged' if run.diverged else ''}"


def _figure(outline: Outline, what: str) -> tuple[Figure, list[Axes]]:
    return panels(f"{outline.subject}: {what} ({outline.seed_count})")
