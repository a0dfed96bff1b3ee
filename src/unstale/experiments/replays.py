"""A recorded run once more, beside what it was; or its arrivals under another method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from unstale.callbacks import Callback
from unstale.engines import Plan
from unstale.engines.replay import arrivals, repeat
from unstale.errors import ArgumentError
from unstale.experiments.request import plan_of
from unstale.measure import VOID
from unstale.methods import Method, get
from unstale.record import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Replay", "replay"]

_SUMS = ("gap", "normalised_gap", "penalty")  # which several servers add up in another order
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Replay:
    """``recorded``: the run as it was. ``run``: as it is now. ``repeated``: under the same method, call by call."""

    recorded: Run
    run: Run
    repeated: bool

    @property
    def identical(self) -> bool:
        """Whether parameters, history and evaluations are the same to the bit, but for ``rounded``."""
        return self.largest_difference == 0 and not self.differences

    @cached_property
    def largest_difference(self) -> float:
        """Between two elements of the parameters and buffers; NaN where one of them is."""
        if self.recorded.params.keys() != self.run.params.keys():
            return math.inf
        return max(
            (_difference(value, self.run.params[name]) for name, value in self.recorded.params.items()), default=0.0
        )

    @cached_property
    def differences(self) -> dict[str, int]:
        """Columns of history and evaluations that differ, and in how many rows."""
        before, after = self.recorded.history, self.run.history.copy()
        after[list(self.rounded)] = before[list(self.rounded)]
        # Runs that were recorded earlier know the losses of pushes that did not count.
        found = _differing("history", before.assign(loss=before["loss"].mask(before["outcome"].isin(VOID))), after)
        seen, again = self.recorded.evaluations, self.run.evaluations
        # A run that is interrupted is not evaluated where it ends; its replay, which runs out of events, is.
        again = again.iloc[: len(seen)] if self.recorded.status == "interrupted" else again
        return {**found, **_differing("evaluations", seen, again)}

    @cached_property
    def rounded(self) -> tuple[str, ...]:
        """Figures of the pushes that differ in their last digits only, as those do that several servers added up."""
        before, after = self.recorded.history, self.run.history
        if len(before) != len(after):
            return ()
        close = {name: np.isclose(before[name], after[name], rtol=_ROUNDING, atol=0, equal_nan=True) for name in _SUMS}
        return tuple(name for name in _SUMS if close[name].all() and not before[name].equals(after[name]))

    @cached_property
    def versions(self) -> dict[str, tuple[str, str]]:
        """What was another one then: processor, torch, …; before and now. The last bits may depend on it."""
        before, after = (run.config.get("versions") for run in (self.recorded, self.run))
        before, after = (found if isinstance(found, Mapping) else {} for found in (before, after))
        return {name: (str(before.get(name)), str(now)) for name, now in after.items() if before.get(name) != now}


def replay(
    folder: str | Path,
    method: str | Method | None = None,
    *,
    plan: Plan | None = None,
    callbacks: Sequence[Callback] = (),
) -> Replay:
    """Let what happened in a real run happen again, in the simulator, from the folder that it was saved in.

    On the same kind of processor and with the same versions it ends with the same parameters, to the bit. With a
    ``method``, gradients arrive, and workers come and go, when they did then, and are treated as it does.

    plan: what the run was, for one that was begun in Python: its task can be made again there only.

    Raises `StoreError` for a folder without a real run; `RunError` where the server answers otherwise than it did,
    for then ``plan`` is not that of the run.
    """
    recorded = Run.load(folder)
    if recorded.events is None:
        raise ArgumentError(f"folder must hold a real run, with events, but {folder} has none; simulated runs repeat")
    made = plan or plan_of(folder)
    if method is None:
        return Replay(recorded, repeat(made, recorded.events, tuple(callbacks)), repeated=True)
    made = replace(made, method=get(method))
    return Replay(recorded, arrivals(made, recorded.events, tuple(callbacks)), repeated=False)


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    if one.shape != other.shape:
        return math.inf
    same = (one == other) | (one.isnan() & other.isnan())
    return 0.0 if bool(same.all()) else float((one.double() - other.double())[~same].abs().max())


def _differing(table: str, one: pd.DataFrame, other: pd.DataFrame) -> dict[str, int]:
    if len(one) != len(other):
        return {f"{table}.rows": abs(len(one) - len(other))}
    same = (one == other) | (one.isna() & other.isna())
    return {f"{table}.{name}": int(count) for name, count in (~same).sum().items() if count}
