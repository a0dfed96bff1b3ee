"""What comes of a reproduced table or figure: the comparison, read beside the paper's numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from unstale.errors import StoreError
from unstale.experiments import beside, claims, claims_page, paper, presets, results, tables
from unstale.experiments.comparison import Comparison, publish
from unstale.experiments.differences import differences
from unstale.experiments.evidence import Evidence
from unstale.experiments.outline import Outline
from unstale.experiments.pool import Failure
from unstale.experiments.presets import Preset

__all__ = ["Reproduction", "Staleness", "load"]


@dataclass(frozen=True, eq=False)
class Reproduction:
    """A table of the paper, run here. workload: what was run, by the preset's names."""

    comparison: Comparison
    preset: Preset
    workload: Mapping[str, Any]

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Runs that did not finish."""
        return self.comparison.failures

    @property
    def outline(self) -> Outline:
        """What was compared."""
        return self.comparison.outline

    @property
    def differences(self) -> list[str]:
        """What was trained otherwise than in the paper."""
        return differences(self.preset, json.loads(json.dumps(self.workload)), self.outline.task)

    @property
    def baseline(self) -> str:
        """One worker's score: measured, as the preset expects it, and in the paper."""
        cell = tables.baseline(self.outline, self.comparison.results)
        expected, published = self.workload.get("baseline"), self.preset.paper.get("baseline")
        known = "" if expected is None else f" (the preset expects {expected})"
        there = "" if published is None else f", in the paper {published.value} [{published.evidence}]"
        return f"baseline ({self.outline.baseline_label}, one worker): {cell.text} here{known}{there}"

    @property
    def rows(self) -> list[beside.Row]:
        """The table, the paper's rows under ours."""
        return beside.rows(self.outline, self.comparison.results, self.preset.table)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """Mean delay and normalised gap of each epoch of each run that is looked at."""
        return self.comparison.epochs

    @cached_property
    def evidence(self) -> Evidence:
        """What our runs have to say to the claims."""
        at = None if self.preset.table is None else paper.HALF_LOST_AT.get(self.preset.table)
        return Evidence.of(self.outline, self.comparison.results, self.epochs, at)

    def claims(self) -> list[str]:
        """One sentence for each of the paper's claims that these results can speak to."""
        return claims.sentences(self.evidence)

    def claims_page(self, made_by: Sequence[str] = ()) -> str:
        """All claims, here and in the paper's numbers, as Markdown."""
        theirs = None if self.preset.table is None else paper.evidence(self.preset.table)
        return claims_page.page(self.evidence, self.preset.title, theirs, made_by)

    def notes(self) -> list[str]:
        """What a reader of the table has to know."""
        spread = f"{self.outline.score_name}, mean±standard deviation over {self.outline.seed_count}"
        lost = [] if self.preset.table is not None else ["The paper's numbers for this are not in this package."]
        marks = tables.footnotes(self.outline, self.comparison.results)
        return [f"{self.outline.subject}: {spread}; {self.baseline}.", *lost, *marks]

    def write(self) -> list[Path]:
        """Write tables, pictures and claims.md, from what is stored. Raises `StoreError` if it cannot."""
        frames = {"results.csv": self.comparison.results, **self._frames()}
        texts = {"table.md": self._markdown(), "claims.md": self.claims_page(self._made())}
        return publish(self.comparison.folder, frames, texts, self._figures())

    @property
    def table(self) -> pd.DataFrame:
        """A row a number of workers and method, as in table.csv."""
        return beside.csv(self.outline, self.comparison.results, self.preset.table)

    def _frames(self) -> dict[str, pd.DataFrame]:
        return {"table.csv": self.table}

    def _figures(self) -> dict[str, Any]:
        from unstale import plots

        outline, table, number = self.outline, self.comparison.results, self.preset.table
        scores = (
            plots.scores_figure(outline, table)
            if number is None
            else plots.beside_figure(outline, table, paper.table(number), f"Table {number}: {self.preset.title}")
        )
        return {
            "scores.png": scores,
            "time.png": plots.curves_figure(outline, self.comparison.curves, table),
            "delay_vs_gap.png": plots.gap_figure(outline, self.comparison.epochs),
        }

    def _markdown(self) -> str:
        head = [f"# {self.preset.title}, reproduced", "", beside.markdown(self.outline.labels, self.rows), ""]
        return "\n".join([*head, " ".join(self.notes()), "", *self._made()]).rstrip() + "\n"

    def _made(self) -> Sequence[str]:
        changes = self.differences or ["nothing"]
        return ["What differs from the paper:", "", *(f"- {line}" for line in changes), "", *self.comparison.birth()]


@dataclass(frozen=True, eq=False)
class Staleness(Reproduction):
    """Figure C.8: delay and normalised gap, by epoch at every number of workers, and by push at one of them."""

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """At every number of workers."""
        return results.epochs(self.comparison.runs(self.outline.labels, self.outline.workers))

    @property
    def at(self) -> int:
        """The number of workers whose pushes are shown: the preset's, or the largest."""
        wanted = self.preset.about.get("scatter_at")
        return wanted if wanted in self.outline.workers else self.outline.largest

    @cached_property
    def pushes(self) -> pd.DataFrame:
        """Method, push, progress, delay, normalised_gap: each push that was used, of the first seed's runs."""
        names = ["method", "push", "progress", "delay", "normalised_gap"]
        runs = [pair for pair in self.comparison.runs(self.outline.labels, (self.at,)) if self._first(pair[0].seed)]
        parts = [results.used_pushes(run).assign(method=trial.label)[names] for trial, run in runs]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({name: [] for name in names})

    def _first(self, seed: int) -> bool:
        return seed == self.outline.seeds[0]

    def _frames(self) -> dict[str, pd.DataFrame]:
        return {**super()._frames(), "epochs.csv": self.epochs, "pushes.csv": self.pushes}

    def _figures(self) -> dict[str, Any]:
        from unstale import plots

        return {
            "delay_vs_gap.png": plots.gaps_figure(self.outline, self.epochs),
            "pushes.png": plots.pushes_figure(self.outline, self.pushes, self.at),
        }


_KINDS = {"table": Reproduction, "staleness": Staleness}


def load(folder: str | Path, failures: tuple[Failure, ...] = ()) -> Reproduction:
    """From its folder; nothing is run. Raises `StoreError` if it holds no reproduction, or a damaged one."""
    comparison = Comparison.load(folder, failures)
    made = comparison.outline.made
    if not isinstance(made.get("workload"), Mapping) or made.get("preset") not in presets.NAMES:
        raise StoreError(f"{folder} holds no reproduction; pass a folder that reproduce has written")
    preset = presets.get(str(made["preset"]))
    return _KINDS[preset.kind](comparison, preset, made["workload"])
