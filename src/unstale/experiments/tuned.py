"""A tuning, finished or not, as it is stored: trials, the best of them, and a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from unstale import checks
from unstale.describe import Plain, describe, finite
from unstale.errors import ArgumentError, StoreError
from unstale.experiments.points import mean_score
from unstale.experiments.pool import Failure
from unstale.experiments.space import Choice, Dimension, Range, Space
from unstale.experiments.store import Store
from unstale.experiments.study import Study, opened
from unstale.storage import write_json, written

__all__ = ["TUNING", "Tuning", "TuningStore"]

TUNING = "tuning.json"
FILES = ("trials.csv", "best.json", "heatmap.png")
_COLUMNS = {
    "score": "float64",
    "std": "float64",
    "seeds": "int64",
    "diverged": "int64",
    "state": "str",
    "seconds": "float64",
    "reason": "str",
}
_STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


@dataclass(frozen=True)
class TuningStore(Store):
    """Where the runs of a tuning are kept."""

    file: ClassVar[str] = TUNING
    kind: ClassVar[str] = "tuning"
    maker: ClassVar[str] = "tune"

    @staticmethod
    def described(space: Space) -> dict[str, Plain]:
        """A space as it is written into tuning.json."""
        return {name: describe(dimension) for name, dimension in space.items()}

    def space(self) -> Space:
        """What is tuned. Raises `StoreError` if that cannot be read."""
        return _space(self.document(), self.folder / self.file)

    def _check(self, document: Mapping[str, Any], path: Path) -> None:
        _space(document, path)


@dataclass(frozen=True, eq=False)
class Tuning:
    """What came of a tuning.

    folder: where it is kept. space: what was tuned. about: task, method, workers, seeds and settings, and how it was
    made. failures: trials that did not finish.
    trials: one row per trial, as in trials.csv: its number, a column for each tuned name, score (mean over the seeds,
        NaN if one of them has none), std, seeds that have run, how many of them diverged, state (finished, pruned,
        failed, running), seconds of training, and the reason of a failure.
    """

    folder: Path
    space: Space = field(repr=False)
    about: Mapping[str, Any] = field(repr=False)
    trials: pd.DataFrame = field(repr=False)
    failures: tuple[Failure, ...] = ()

    @classmethod
    def of(cls, store: TuningStore, study: Study, failures: tuple[Failure, ...] = ()) -> Tuning:
        """As the study stands."""
        document, space = store.document(), store.space()
        rows = [_row(trial, list(space)) for trial in study.trials() if trial.state.name in _STATES]
        before, after = {"trial": "int64"}, _COLUMNS
        table = pd.DataFrame(rows, columns=[*before, *space, *after]).astype({**before, **after})
        about = {**document["specification"], "made": document["made"]}
        return cls(store.folder, space, about, table, failures)

    @classmethod
    def load(cls, folder: str | Path) -> Tuning:
        """From its folder; nothing is run. Raises `StoreError` if it holds no tuning, or a damaged one."""
        store = TuningStore(checks.path("folder", folder))
        higher = bool(store.document()["specification"]["task"].get("higher_is_better", True))
        with opened(store.folder, store.space(), higher) as study:
            return cls.of(store, study)

    @cached_property
    def best(self) -> pd.Series[Any] | None:
        """The best trial's row, the first of equals; None if none has finished without diverging."""
        rows = self.trials
        good = rows[(rows["state"] == "finished") & np.isfinite(rows["score"]) & (rows["diverged"] < rows["seeds"])]
        if not len(good):
            return None
        scores = good["score"] if self.higher_is_better else -good["score"]
        row: pd.Series[Any] = good.loc[scores.idxmax()]
        return row

    @property
    def best_params(self) -> dict[str, Any]:
        """Its values by name, such as {"momentum": 0.5, "lr": 0.05}; empty if there is none."""
        return {} if self.best is None else {name: _plain(self.best[name]) for name in self.space}

    @property
    def best_score(self) -> float:
        """Its score; NaN if there is none."""
        return math.nan if self.best is None else float(self.best["score"])

    @property
    def higher_is_better(self) -> bool:
        """Whether a higher score is a better one."""
        return bool(self.about["task"].get("higher_is_better", True))

    @property
    def title(self) -> str:
        """What was tuned: task, model, method, workers."""
        task = self.about["task"]
        return f"{task.get('name')} / {task.get('model_name')}: {self.about['method']}, N = {self.about['workers'][0]}"

    def edges(self) -> list[str]:
        """Names whose best value is at an end, other than 0, of what was tried: better ones may lie outside."""
        numeric = {n: [v for v in d.ends if not isinstance(v, str | bool)] for n, d in self.space.items()}
        best = self.best_params
        return [
            n for n, values in numeric.items() if best and len(values) > 1 and best[n] in (min(values), max(values))
        ]

    def write(self) -> list[Path]:
        """Write trials.csv, best.json and heatmap.png. Raises `StoreError` if it cannot."""
        from unstale.heatmap import heatmap_figure

        best: dict[str, Plain] = {"params": self.best_params, "score": self.best_score}
        if self.best is not None:
            best |= {name: _plain(self.best[name]) for name in ("std", "seeds", "diverged", "trial")}
        best |= {name: self.about[name] for name in ("method", "workers", "made")}
        with written(self.folder) as new:
            self.trials.to_csv(new / "trials.csv", index=False)
            write_json(new / "best.json", finite(best))
            heatmap_figure(self).savefig(new / "heatmap.png")
        return [self.folder / name for name in FILES]


def _row(trial: Any, names: list[str]) -> dict[str, Any]:
    notes = trial.user_attrs
    scores = pd.Series(notes.get("scores", ()), dtype="float64")
    return {
        "trial": trial.number,
        **{name: trial.params.get(name) for name in names},
        "score": mean_score(scores),
        "std": float(scores.std(skipna=False)) if np.isfinite(scores).all() else math.nan,
        "seeds": len(scores),
        "diverged": int(notes.get("diverged", 0)),
        "state": _STATES[trial.state.name],
        "seconds": float(notes.get("seconds", math.nan)),
        "reason": str(notes.get("reason", "")),
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _space(document: Mapping[str, Any], path: Path) -> Space:
    try:
        space: dict[str, Dimension] = {}
        for name, about in document["specification"]["space"].items():
            fields = {key: value for key, value in about.items() if key != "type"}
            space[name] = Choice(tuple(fields["values"])) if about["type"] == "Choice" else Range(**fields)
        return space
    except (KeyError, TypeError, AttributeError, ArgumentError) as error:
        raise StoreError(f"{path} is damaged ({error!r}); delete its folder and tune again") from error
