"""Results made by hand, as if they had been run."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from unstale.experiments.evidence import Evidence
from unstale.experiments.outline import BASELINE, Outline, Trial
from unstale.experiments.results import results

Scores = Mapping[tuple[str, int], tuple[float, float]]
"""(method, workers) → mean and standard deviation."""

PAPER = ("asgd", "nag_asgd", "sa", "ga", "dana", "dana_sa", "dana_ga")

# Table 4 (ResNet-20, CIFAR-10, baseline 92.43) and table 3 (ResNet-50, ImageNet, 75.64): means in the order of PAPER.
TABLE_4 = {
    4: (90.5, 91.43, 91.63, 91.78, 92.13, 91.82, 92.06),
    8: (90.28, 87.68, 90.63, 91.21, 91.97, 90.99, 92.13),
    12: (90.02, 10.0, 89.73, 90.12, 91.2, 90.27, 91.87),
    16: (89.82, 10.0, 88.93, 89.59, 89.68, 89.48, 91.98),
    20: (89.55, 10.0, 88.21, 89.03, 88.06, 88.97, 91.62),
    24: (89.35, 10.0, 87.23, 88.75, 67.72, 88.4, 91.46),
    28: (88.5, 10.0, 86.31, 88.18, 30.72, 88.0, 91.45),
}
NAN = math.nan
TABLE_3 = {
    32: (70.53, 70.64, 61.73, 70.27, 74.89, 65.66, 75.06),
    48: (69.05, 66.78, 56.22, 67.75, 73.75, 61.16, 74.23),
    64: (67.1, 59.81, 50.79, 64.78, 69.88, 56.98, 74.11),
    128: (NAN, NAN, NAN, NAN, NAN, NAN, 72.18),
}


def of_table(table: Mapping[int, tuple[float, ...]], std: float) -> Scores:
    return {(m, n): (mean, std) for n, row in table.items() for m, mean in zip(PAPER, row, strict=True)}


def make_outline(scores: Scores, seeds: int = 3, **task: object) -> Outline:
    labels = tuple(dict.fromkeys(label for label, _ in scores))
    workers = tuple(sorted({n for _, n in scores}))
    about = {
        "name": "cifar",
        "model_name": "resnet20",
        "score_name": "accuracy",
        "higher_is_better": True,
        "chance": 10.0,
    }
    times = {(n, seed): 100.0 / n for n in (1, *workers) for seed in range(seeds)}
    made = {"command": "by hand", "date": "2020-01-01"}
    return Outline({**about, **task}, labels, workers, tuple(range(seeds)), {"epochs": 2}, times, made)


def make_results(outline: Outline, scores: Scores, baseline: float = 92.43) -> pd.DataFrame:
    """Seeds are spread evenly around the mean, so that mean and standard deviation are as given."""
    chance = outline.task["chance"]
    summaries = {}
    for (label, n), (mean, std) in {(BASELINE, 1): (baseline, 0.0), **scores}.items():
        for seed in outline.seeds:
            score = mean + (0.0 if math.isnan(std) else std * _spread(seed, len(outline.seeds)))
            diverged = math.isnan(score) or (isinstance(chance, float) and score <= chance)
            summaries[Trial(label, n, seed)] = summary(score, diverged, n)
    return results(outline, summaries)


def _spread(seed: int, seeds: int) -> float:
    """−1, 0, 1 for three seeds, ∓1/√2 for two."""
    return 0.0 if seeds == 1 else (seed - (seeds - 1) / 2) * (1.0 if seeds == 3 else math.sqrt(2.0))


def summary(score: float, diverged: bool, workers: int) -> dict[str, object]:
    means = dict.fromkeys(("mean_gap", "mean_normalised_gap", "mean_penalty"), 1.0)
    time = 50.0 / workers
    counts = {"pushes": 100, "wasted": 0, "mean_delay": workers - 1.0}
    return {"score": score, "diverged": diverged, **counts, **means, "simulated_time": time, "seconds": 1.0}


def make_epochs(seeds: int = 3, **gaps: tuple[float, ...]) -> pd.DataFrame:
    """Normalised gaps by method, one an epoch and the same in every seed, at N = 28 and a delay of 10."""
    rows = [
        {"method": label, "workers": 28, "seed": seed, "epoch": epoch, "delay": 10.0, "normalised_gap": gap}
        for label, values in gaps.items()
        for seed in range(seeds)
        for epoch, gap in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["method", "workers", "seed", "epoch", "delay", "normalised_gap"])


def evidence(scores: Scores, seeds: int = 3, baseline: float = 92.43, **gaps: tuple[float, ...]) -> Evidence:
    outline = make_outline(scores, seeds)
    return Evidence.of(outline, make_results(outline, scores, baseline), make_epochs(seeds, **gaps))
