"""What a folder of results holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unstale.experiments.store import COMPARISON, Store
from unstale.experiments.table1 import workloads
from unstale.experiments.tuned import TUNING
from unstale.storage import CONFIG

__all__ = ["Kind", "kind_of"]

Kind = Literal["run", "tuning", "comparison", "reproduction", "table1"]


def kind_of(folder: Path) -> Kind | None:
    """None if it holds none of them. Raises `StoreError` for a comparison that is damaged."""
    if (folder / CONFIG).exists():
        return "run"
    if (folder / TUNING).exists():
        return "tuning"
    if (folder / COMPARISON).exists():
        return "reproduction" if "preset" in Store(folder).outline().made else "comparison"
    return "table1" if workloads(folder) else None
