"""The numbers of Barkai, Hakimi, Schuster, "Gap-Aware Mitigation of Gradient Staleness", ICLR 2020, as data."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from unstale.errors import UnknownNameError
from unstale.experiments.effects import Sample
from unstale.experiments.evidence import Evidence

__all__ = ["ASSUMED_RUNS", "HALF_LOST_AT", "Published", "cells", "evidence", "table", "tables"]

ASSUMED_RUNS = 3
"""How many runs are behind a mean that comes with a deviation is not in our copy of the tables: read as the fewest
that can confirm anything. A mean without a deviation is read as a single run."""

HALF_LOST_AT = {4: 12, 5: 12, 6: 20}
"""By table, the number of workers at which NAG-ASGD is said to have lost half of the baseline's accuracy."""

_CHANCE = {"cifar10": 10.0, "cifar100": 1.0, "imagenet": 0.1}


def tables() -> pd.DataFrame:
    """Tables 3 to 6: a row a table, number of workers and method.

    Columns: table, model, dataset, baseline_accuracy, workers, method, test_accuracy_mean, test_accuracy_std; percent.
    The deviation is NaN where none is given, the mean where training diverged.
    """
    return _read().copy()


def table(number: int) -> pd.DataFrame:
    """One of them, with ``diverged``: NaN, or no better than chance. Raises `UnknownNameError` for another number."""
    everything = _read()
    rows = everything[everything["table"] == number]
    if not len(rows):
        raise UnknownNameError("table of the paper", number, map(str, everything["table"].unique()))
    mean = rows["test_accuracy_mean"]
    return rows.assign(diverged=mean.isna() | (mean <= rows["dataset"].map(_CHANCE))).reset_index(drop=True)


class Published(NamedTuple):
    """One method at one number of workers; percent. std is NaN where none is given, mean where training diverged."""

    method: str
    workers: int
    mean: float
    std: float
    diverged: bool


def cells(number: int) -> list[Published]:
    """One of the tables, cell by cell."""
    rows = table(number)
    names = ("method", "workers", "test_accuracy_mean", "test_accuracy_std", "diverged")
    return [Published(*values) for values in zip(*(rows[name].tolist() for name in names), strict=True)]


def evidence(number: int) -> Evidence:
    """One of them, to judge the claims by. What diverged to NaN counts as chance."""
    rows = table(number)
    chance = _CHANCE[str(rows["dataset"].iloc[0])]
    samples = {(cell.method, cell.workers): _sample(cell, chance) for cell in cells(number)}
    baseline = Sample.constant(float(rows["baseline_accuracy"].iloc[0]))
    return Evidence(samples, baseline, half_lost_at=HALF_LOST_AT.get(number), runs="assumed run")


def _sample(cell: Published, chance: float) -> Sample:
    runs = 1 if math.isnan(cell.std) else ASSUMED_RUNS
    mean = chance if math.isnan(cell.mean) else cell.mean
    return Sample(mean, cell.std, runs, diverged=runs if cell.diverged else 0)


@cache
def _read() -> pd.DataFrame:
    return pd.read_csv(str(files(__name__) / "tables.csv"))
