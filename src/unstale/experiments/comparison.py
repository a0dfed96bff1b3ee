"""A comparison, finished or not, as it is stored: numbers, claims, table and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from unstale import checks
from unstale.errors import StoreError
from unstale.experiments import claims, results, tables
from unstale.experiments.evidence import Evidence
from unstale.experiments.outline import Outline, Trial
from unstale.experiments.pool import Failure
from unstale.experiments.store import Store
from unstale.record import Run
from unstale.storage import written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Comparison", "publish"]

GAP_METHODS = ("ga", "dana_ga")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of a comparison.

    folder: where it is kept. results: one row per run, as in results.csv. failures: runs that did not finish.
    """

    folder: Path
    outline: Outline = field(repr=False)
    results: pd.DataFrame = field(repr=False)
    failures: tuple[Failure, ...] = ()
    versions: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def load(cls, folder: str | Path, failures: tuple[Failure, ...] = ()) -> Comparison:
        """From its folder; nothing is run. Raises `StoreError` if it holds no comparison, or a damaged one."""
        store = Store(checks.path("folder", folder))
        outline = store.outline()
        records = {trial: store.record(trial) for trial in outline.trials() if store.has(trial)}
        try:
            table = results.results(outline, {trial: record["summary"] for trial, record in records.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"a summary in {folder}/runs is damaged ({error!r}); delete that run's folder and compare again"
            ) from error
        versions = tuple(sorted({_versions(record["config"].get("versions")) for record in records.values()}))
        return cls(store.folder, outline, table, failures, versions)

    @property
    def missing(self) -> list[Trial]:
        """Runs that are not there yet."""
        store = Store(self.folder)
        return [trial for trial in self.outline.trials() if not store.has(trial)]

    def run(self, method: str, workers: int, seed: int = 0) -> Run:
        """One run, with its history. Raises `StoreError` if it is not there."""
        return Store(self.folder).load(Trial(method, workers, seed))

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """Mean delay and normalised gap in each epoch of each run at the largest number of workers.

        Of ``ga`` and ``dana_ga``; of all methods if neither was compared.
        """
        shown = [label for label in GAP_METHODS if label in self.outline.labels]
        return results.epochs(self._at_largest(shown or self.outline.labels))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Score over simulated time at the largest number of workers, synchronous training beside the methods."""
        labels = dict.fromkeys([*self.outline.labels, self.outline.reference_label])
        return results.curves(self._at_largest(filter(None, labels)))

    def claims(self) -> list[str]:
        """One sentence for each of the paper's claims that these results can speak to."""
        return claims.sentences(Evidence.of(self.outline, self.results, self.epochs))

    def table(self) -> str:
        """Methods as columns, numbers of workers as rows, as Markdown."""
        return tables.markdown(self.outline, self.results, self.birth())

    def write(self) -> list[Path]:
        """Write results.csv, table.md and the pictures, from what is stored. Raises `StoreError` if it cannot."""
        from unstale import plots

        figures = {
            "scores.png": plots.scores_figure(self.outline, self.results),
            "delay_vs_gap.png": plots.gap_figure(self.outline, self.epochs),
            "curves.png": plots.curves_figure(self.outline, self.curves, self.results),
        }
        return publish(self.folder, {"results.csv": self.results}, {"table.md": self.table()}, figures)

    def runs(self, labels: Iterable[str], workers: Iterable[int]) -> Iterator[tuple[Trial, Run]]:
        """The finished runs of these methods at these numbers of workers, read one by one."""
        store = Store(self.folder)
        trials = (Trial(label, n, seed) for label in labels for n in workers for seed in self.outline.seeds)
        return ((trial, store.load(trial)) for trial in trials if store.has(trial))

    def _at_largest(self, labels: Iterable[str]) -> Iterator[tuple[Trial, Run]]:
        return self.runs(labels, (self.outline.largest,))

    def birth(self) -> list[str]:
        """How the results were made: lines of Markdown."""
        made, runs = self.outline.made, self.results
        chosen = Store(self.folder).strategy()
        settings = "" if chosen is None else f"gradients: {chosen}; "
        settings += "; ".join(f"{name}: {_plain(value)}" for name, value in self.outline.settings.items())
        return [
            f"Made by `{made.get('command')}` on {made.get('date')}, "
            f"with {' and '.join(self.versions) or 'no run yet'}; "
            f"{self.outline.seed_count} ({', '.join(map(str, self.outline.seeds))}), {len(runs)} runs, "
            f"{runs['seconds'].sum():.0f} s of training{_wall(Store(self.folder).sessions())}.",
            "",
            f"Settings: {settings}.",
        ]


def _wall(sessions: list[dict[str, Any]]) -> str:
    """ ", 250 s of wall time, 2 runs at a time"."""
    if not sessions:
        return ""
    at_once = " or ".join(sorted({str(session["jobs"]) for session in sessions}))
    stops = f", in {len(sessions)} sittings" if len(sessions) > 1 else ""
    return f", {sum(s['seconds'] for s in sessions):.0f} s of wall time, {at_once} at a time{stops}"


def publish(
    folder: Path, tables: Mapping[str, pd.DataFrame], texts: Mapping[str, str], figures: Mapping[str, Figure]
) -> list[Path]:
    """Write files by name, all or none. Raises `StoreError` if it cannot."""
    with written(folder) as new:
        for name, table in tables.items():
            table.to_csv(new / name, index=False)
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8")
        for name, figure in figures.items():
            figure.savefig(new / name)
    return [folder / name for name in (*tables, *texts, *figures)]


def _versions(versions: object) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items()) if isinstance(versions, dict) else "unknown"


def _plain(value: object) -> str:
    if isinstance(value, dict):
        inside = ", ".join(f"{name}={_plain(item)}" for name, item in value.items() if name != "type")
        return f"{value.get('type', '')}({inside})"
    return str(value)
