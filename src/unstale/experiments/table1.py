"""Table 1: ASGD with the best of 70 settings at N = 32, against GA and DANA-GA with the baseline's hyper-parameters.

Each workload has a folder with three things: ``untuned``, a comparison; ``tuning``, a study; ``tuned``, the best
setting of that study, trained again on every seed. The study has a seed of its own: what chose does not judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from unstale import checks
from unstale.errors import StoreError
from unstale.experiments import claims_page, presets, reproduction
from unstale.experiments.claims import TUNED, sentences
from unstale.experiments.comparison import Comparison, publish
from unstale.experiments.pool import Failure
from unstale.experiments.reproduction import Reproduction
from unstale.experiments.store import COMPARISON, Store
from unstale.experiments.tables import Cell, cells, markdown_rows

__all__ = ["TUNED_RUNS", "TUNING", "UNTUNED", "Table1", "Workload", "workloads"]

UNTUNED, TUNING, TUNED_RUNS = "untuned", "tuning", "tuned"


def workloads(folder: Path) -> list[str]:
    """The names of table 1's workloads in a folder; none, where it holds no table 1."""
    return sorted(path.parent.parent.name for path in folder.glob(f"*/{UNTUNED}/{COMPARISON}"))


class Best(NamedTuple):
    """What the tuning chose; NaN while it has not."""

    momentum: float = math.nan
    lr: float = math.nan

    def __str__(self) -> str:
        return "not tuned yet" if math.isnan(self.lr) else f"tuned: momentum {self.momentum:g}, lr {self.lr:g}"


@dataclass(frozen=True, eq=False)
class Workload:
    """A line of the table. tuned: the runs of the tuned method, None before there are any."""

    untuned: Reproduction
    tuned: Comparison | None

    @classmethod
    def load(cls, folder: Path) -> Workload:
        """From its folder. Raises `StoreError` if that is damaged."""
        tuned = Comparison.load(folder / TUNED_RUNS) if Store(folder / TUNED_RUNS).exists() else None
        return cls(reproduction.load(folder / UNTUNED), tuned)

    @cached_property
    def best(self) -> Best:
        """The setting that was trained on every seed."""
        if self.tuned is None:
            return Best()
        given = Store(self.tuned.folder).document()["specification"]
        try:
            return Best(float(given["methods"][TUNED]["update"]["momentum"]), float(given["settings"]["lr"]["lr"]))
        except (KeyError, TypeError, ValueError) as error:
            path = self.tuned.folder / COMPARISON
            raise StoreError(f"{path} is damaged ({error!r}); delete its folder and reproduce again") from error

    @cached_property
    def whole(self) -> Reproduction:
        """With the tuned method as one more column, and beside what the paper had in table 1."""
        comparison = self.untuned.comparison
        outline = replace(comparison.outline, labels=(TUNED, *comparison.outline.labels))
        rows = pd.concat([comparison.results, *self._of_tuned("results")], ignore_index=True)
        there = {**self.untuned.preset.paper, **_shared(presets.get("table1").paper, self.untuned.preset.paper)}
        preset = replace(self.untuned.preset, paper=there)
        return replace(self.untuned, comparison=replace(comparison, outline=outline, results=rows), preset=preset)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """See `Comparison.curves`."""
        return pd.concat([*self._of_tuned("curves"), self.untuned.comparison.curves], ignore_index=True)

    @property
    def cells(self) -> Mapping[str, Cell]:
        """By method."""
        outline = self.whole.outline
        made = cells(outline, self.whole.comparison.results)
        return {label: made[outline.largest, label] for label in outline.labels}

    def note(self, name: str) -> str:
        """What was trained, with which setting, and what differs from the paper."""
        outline = self.whole.outline
        about = f"{name}: {outline.subject}, N = {outline.largest}, {outline.seed_count}; {self.whole.baseline}"
        return " ".join([f"{about}; {self.best}.", *(f"{line}." for line in self.whole.differences)])

    def _of_tuned(self, frame: str) -> list[pd.DataFrame]:
        """Of the baseline and of synchronous training, those of the untuned comparison are shown."""
        if self.tuned is None:
            return []
        rows: pd.DataFrame = getattr(self.tuned, frame)
        return [rows[rows["method"] == TUNED]]


@dataclass(frozen=True, eq=False)
class Table1:
    """The table, by workload, finished or not."""

    folder: Path
    parts: Mapping[str, Workload]
    failures: tuple[Failure, ...] = ()

    @classmethod
    def load(cls, folder: str | Path, failures: tuple[Failure, ...] = ()) -> Table1:
        """From its folder; nothing is run. Raises `StoreError` if it holds no table 1, or a damaged one."""
        folder = checks.path("folder", folder)
        names = workloads(folder)
        if not names:
            raise StoreError(f"{folder} holds no table 1; pass a folder that `unstale reproduce table1` has written")
        return cls(folder, {name: Workload.load(folder / name) for name in names}, failures)

    @property
    def title(self) -> str:
        """The preset's."""
        return presets.get("table1").title

    @property
    def rows(self) -> list[tuple[str, Mapping[str, Cell]]]:
        """A line a workload."""
        return [(name, part.cells) for name, part in self.parts.items()]

    @property
    def labels(self) -> tuple[str, ...]:
        """The columns."""
        return next(iter(self.parts.values())).whole.outline.labels

    @property
    def table(self) -> pd.DataFrame:
        """A row a run, as in table.csv: those of a comparison's results.csv, and the tuned momentum and lr."""
        frames = [
            part.whole.comparison.results.assign(workload=name, **part.best._asdict())
            for name, part in self.parts.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        lost = "The paper's numbers for this table, and its grid, are not in this package; the grid is this library's."
        return [*(part.note(name) for name, part in self.parts.items()), lost]

    def claims(self) -> list[str]:
        """Claim 6, for each workload."""
        said = {name: sentences(part.whole.evidence) for name, part in self.parts.items()}
        return [f"{name}: {line}" for name, lines in said.items() for line in lines if line.startswith("Claim 6")]

    def claims_page(self) -> str:
        """All claims, for each workload, as Markdown."""
        pages = [claims_page.page(part.whole.evidence, f"{self.title}, {name}") for name, part in self.parts.items()]
        return "\n".join(pages)

    def write(self) -> list[Path]:
        """Write table.csv, table.md, claims.md and the pictures. Raises `StoreError` if it cannot."""
        from unstale import plots

        table = markdown_rows(("workload",), self.labels, [((name,), row) for name, row in self.rows])
        notes = "\n".join(f"- {note}" for note in self.notes())
        texts = {"table.md": f"# {self.title}, reproduced\n\n{table}\n\n{notes}\n", "claims.md": self.claims_page()}
        drawn = [(part.whole.outline, part.whole.comparison.results, part.curves) for part in self.parts.values()]
        figures: dict[str, Any] = {
            "scores.png": plots.scores_panels(self.title, [(outline, results) for outline, results, _ in drawn]),
            "time.png": plots.curves_panels(
                self.title, [(outline, curves, results) for outline, results, curves in drawn]
            ),
        }
        return publish(self.folder, {"table.csv": self.table}, texts, figures)


def _shared(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in first.items() if name in second}
