from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import unstale
from tests.experiments import frames
from unstale import drawing, plots

SCORES = frames.of_table(frames.TABLE_4, 0.5)


def drawn(figure: Figure, path: Path) -> bytes:
    figure.savefig(path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000
    return content


def curves(labels: tuple[str, ...]) -> pd.DataFrame:
    rows = [
        {"method": m, "evaluation": k, "time": 2.0 * k, "score": 90.0 - 60 / (k + 1), "spread": 1.0}
        for m in labels
        for k in range(5)
    ]
    return pd.DataFrame(rows)


def test_scores_show_each_method_the_baseline_and_divergence(tmp_path: Path) -> None:
    outline = frames.make_outline(SCORES)
    figure = plots.scores_figure(outline, frames.make_results(outline, SCORES))
    drawn(figure, tmp_path / "scores.png")
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["baseline (nag_asgd, N = 1)", *frames.PAPER]
    assert legend.get_title().get_text() == "hollow: a run diverged"
    assert figure.get_suptitle() == "cifar / resnet20: final scores (3 seeds)"
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(n) for n in outline.workers]
    hollow = [line for line in axes.get_lines() if line.get_markerfacecolor() == "white" and np.size(line.get_xdata())]
    assert hollow


def test_published_methods_keep_their_colours() -> None:
    both = [drawing.look("ga", labels)["color"] for labels in (["ga"], ["mine", "asgd", "ga"])]
    assert both[0] == both[1]
    looks = {
        (drawing.look(m, ["a", "b"])["color"], drawing.look(m, ["a", "b"])["marker"]) for m in (*frames.PAPER, "a", "b")
    }
    assert len(looks) == 9


def test_delay_and_gap(tmp_path: Path) -> None:
    outline = frames.make_outline(SCORES)
    figure = plots.gap_figure(outline, frames.make_epochs(ga=(9.0, 4.0, 0.1), dana_ga=(2.0, 1.0, 0.01)))
    drawn(figure, tmp_path / "gap.png")
    assert figure.axes[0].get_yscale() == "log"
    assert len(figure.axes[0].get_lines()) == 3


def test_curves(tmp_path: Path) -> None:
    outline = frames.make_outline(SCORES)
    figure = plots.curves_figure(outline, curves(("ga", "sync")), frames.make_results(outline, SCORES))
    drawn(figure, tmp_path / "curves.png")
    assert "N = 28" in figure.get_suptitle()


def test_nothing_to_draw_is_an_empty_picture(tmp_path: Path) -> None:
    scores = {("asgd", 1): (math.nan, 0.0)}
    outline = frames.make_outline(scores, seeds=1)
    none = frames.make_results(outline, scores).iloc[:0]
    figures = (
        plots.scores_figure(outline, none),
        plots.gap_figure(outline, frames.make_epochs()),
        plots.curves_figure(outline, curves(("x",)).iloc[:0], none),
    )
    for number, figure in enumerate(figures):
        drawn(figure, tmp_path / f"{number}.png")
        assert not [line for axes in figure.axes for line in axes.get_lines() if np.size(line.get_xdata())]


def test_what_grows_without_bound_gets_a_log_scale() -> None:
    scores = {("asgd", 4): (1.0, 0.1), ("asgd", 8): (1e9, 1e8)}
    outline = frames.make_outline(scores, higher_is_better=False, score_name="loss", chance=None)
    assert plots.scores_figure(outline, frames.make_results(outline, scores, 0.5)).axes[0].get_yscale() == "log"


@pytest.mark.parametrize("method", ["dana_ga", "sync"])
def test_a_run_draws_itself_without_global_state(tmp_path: Path, method: str) -> None:
    run = unstale.train(unstale.tasks.digits(width=4), method, 3, epochs=0.5)
    drawn(run.plot(), tmp_path / "run.png")
    assert [axes.get_ylabel() for axes in run.plot().axes] == ["loss", "test accuracy", "staleness"]
    assert "matplotlib.pyplot" not in sys.modules


def test_a_run_that_blew_up_can_be_drawn(tmp_path: Path) -> None:
    run = unstale.train(unstale.tasks.quadratic(), "nag_asgd", 4, lr=1e8, epochs=8)
    assert run.diverged
    figure = run.plot()
    assert figure.get_suptitle().endswith("diverged")
    drawn(figure, tmp_path / "run.png")


def test_delays_of_a_run(tmp_path: Path) -> None:
    run = unstale.train(unstale.tasks.digits(width=4), "asgd", 3, epochs=0.5)
    figure = plots.delay_figure(run)
    drawn(figure, tmp_path / "delays.png")
    (axes,) = figure.axes
    counts = run.history["delay"].value_counts()
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in bars}
    assert heights == counts.to_dict()
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == f"mean {run.history['delay'].mean():.1f}"
    assert figure.get_suptitle().startswith("digits / mlp: asgd, N = 3, seed 0")
    of_scripts = dataclasses.replace(run, config={"method": {"name": "asgd"}, "workers": 3})
    title = plots.delay_figure(of_scripts).get_suptitle()
    assert title.startswith("scripts of your own: asgd, N = 3")
    assert "seed" not in title


def test_a_run_without_pushes_has_no_delays(tmp_path: Path) -> None:
    run = unstale.train(unstale.tasks.quadratic(), "asgd", 1, epochs=0.1)
    figure = plots.delay_figure(dataclasses.replace(run, history=run.history.iloc[:0]))
    drawn(figure, tmp_path / "delays.png")
    (axes,) = figure.axes
    assert not axes.patches
    assert not axes.get_lines()


def test_what_has_no_place_on_an_axis_is_left_out_of_the_picture() -> None:
    """A delay of 0 on a logarithmic axis; -1, which stands for none, on any."""
    run = unstale.train(unstale.tasks.quadratic(), "asgd", 4, epochs=2)
    history = run.history.assign(normalised_gap=np.geomspace(1e-3, 1e3, len(run.history)))
    history["delay"] = history["delay"].where(history["push"] != 9, -1)
    figure = plots.run_figure(dataclasses.replace(run, history=history))
    axes = figure.axes[-1]
    assert axes.get_yscale() == "log"
    figure.draw_without_rendering()
    transform = axes.yaxis.get_transform()
    assert not np.isfinite(transform.transform(np.array([0.0]))).any(), "masked, not clipped to the edge"
    assert all(np.nanmin(line.get_ydata()) >= 0 for line in axes.get_lines())
