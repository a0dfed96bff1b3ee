"""Small problems for the engines' tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

import unstale
from unstale import tasks
from unstale.methods import Method
from unstale.record import Run
from unstale.tasks import Task


def blobs(model: Any = None, size: int = 60) -> Task:
    """Three clouds of points; small enough for a run to take milliseconds."""
    rng = np.random.default_rng(0)
    y = torch.arange(size) % 3
    x = torch.from_numpy(rng.normal(size=(size, 4)).astype(np.float32)) + 2 * nn.functional.one_hot(y, 4)
    loss, score = nn.functional.cross_entropy, tasks.accuracy
    return Task(model or (lambda: nn.Linear(4, 3)), loss, (x, y), (x, y), score, chance=100 / 3, score_name="accuracy")


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def trained(method: str | Method = "dana_ga", workers: int = 4, task: Task | None = None, **plan: Any) -> Run:
    return unstale.train(task or blobs(), method, workers, **{"lr": 0.05, "epochs": 3, "batch_size": 8, **plan})


def equal(one: Run, other: Run) -> bool:
    same = all(torch.equal(one.params[name], other.params[name]) for name in one.params)
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    pd.testing.assert_frame_equal(one.evaluations, other.evaluations, check_exact=True)
    return same
