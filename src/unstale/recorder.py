"""Rows of a run while it goes on, in little memory: a hundred bytes a push, whatever the run's length."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unstale.measure import Outcome, Receipt
from unstale.record import EVALUATION_COLUMNS, HISTORY_COLUMNS
from unstale.tickets import Ticket

if TYPE_CHECKING:
    import pandas as pd

    from unstale.tasks import Evaluation

__all__ = ["Recorder"]

# Outcomes are kept as their places among these.
_OUTCOMES: tuple[str, ...] = get_args(Outcome)
_CODES = {"int64": "q", "float64": "d", "bool": "B", "str": "B"}


class Columns:
    """Rows of some types, kept by column as plain numbers."""

    def __init__(self, types: Mapping[str, str]) -> None:
        self.types = types
        self.rows = 0
        self._columns = {name: array(_CODES[kind]) for name, kind in types.items()}

    def append(self, row: Mapping[str, Any]) -> None:
        """One row more, with an outcome's place instead of its name."""
        for name, column in self._columns.items():
            column.append(row[name])
        self.rows += 1

    def frame(self) -> pd.DataFrame:
        """All rows."""
        import pandas as pd

        def series(name: str, kind: str) -> pd.Series[Any]:
            values = self._values(name)
            return pd.Series([_OUTCOMES[code] for code in values] if kind == "str" else values, dtype=kind)

        return pd.DataFrame({name: series(name, kind) for name, kind in self.types.items()})

    def state_dict(self) -> dict[str, Tensor]:
        """A tensor a column, (rows,)."""
        return {name: torch.from_numpy(self._values(name)) for name in self.types}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        self._columns = {name: array(_CODES[kind], state[name].numpy().tobytes()) for name, kind in self.types.items()}
        self.rows = min(map(len, self._columns.values()))

    def _values(self, name: str) -> NDArray[Any]:
        """(rows,) a copy; without what an interruption left of a row."""
        return np.array(self._columns[name][: self.rows])


class Recorder:
    """Collects rows while a run goes on."""

    def __init__(self) -> None:
        self.cancelled = 0
        self._given_up: set[int] = set()  # workers whose ticket was cancelled, and that have not pushed since
        self._pushes, self._evaluations = Columns(HISTORY_COLUMNS), Columns(EVALUATION_COLUMNS)

    @property
    def pushes(self) -> int:
        """How many there were."""
        return self._pushes.rows

    def push(self, time: float, ticket: Ticket, loss: float, receipt: Receipt) -> dict[str, Any]:
        """A row of the history."""
        row = {
            "push": self.pushes,
            "progress": receipt.progress,
            "epoch": ticket.epoch,
            "stream": -1 if ticket.start.stream is None else ticket.start.stream,
            "reset": ticket.start.reset,
            "time": time,
            "worker": receipt.worker,
            "delay": -1 if receipt.delay is None else receipt.delay,
            "gap": _or_nan(receipt.gap),
            "normalised_gap": _or_nan(receipt.normalised_gap),
            "penalty": _or_nan(receipt.penalty),
            "loss": loss if receipt.counted else math.nan,
            "lr": _or_nan(receipt.lr),
            "outcome": receipt.outcome,
            "finite": receipt.finite,
            "extreme": receipt.extreme,
        }
        self._pushes.append({**row, "outcome": _OUTCOMES.index(receipt.outcome)})
        if receipt.worker in self._given_up:
            self._given_up.remove(receipt.worker)
            self.cancelled -= receipt.outcome == "late"  # a real worker computes on, and that push counts itself
        self._given_up |= set(receipt.cancelled)
        self.cancelled += len(receipt.cancelled)
        return row

    def evaluation(self, progress: float, time: float, result: Evaluation) -> dict[str, Any]:
        """A row of the evaluations."""
        row = {"progress": progress, "time": time, "pushes": self.pushes, "loss": result.loss, "score": result.score}
        self._evaluations.append(row)
        return row

    def history(self) -> pd.DataFrame:
        """One row per push."""
        return self._pushes.frame()

    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation."""
        return self._evaluations.frame()

    def state_dict(self) -> dict[str, Any]:
        """All rows: a tensor a column."""
        parts = {"pushes": self._pushes.state_dict(), "evaluations": self._evaluations.state_dict()}
        return {**parts, "cancelled": self.cancelled, "given_up": sorted(self._given_up)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._pushes.load_state_dict(state["pushes"])
        self._evaluations.load_state_dict(state["evaluations"])
        self.cancelled, self._given_up = state["cancelled"], set(state["given_up"])


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
