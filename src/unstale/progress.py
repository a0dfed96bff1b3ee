"""What a run, or many runs, say on standard error while they go on."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from unstale.callbacks import Callback, in_short
from unstale.engines.live.members import AWAY
from unstale.experiments.outline import Trial
from unstale.experiments.pool import Failure, Watcher
from unstale.measure import VOID
from unstale.progress_lines import bar, worker_lines
from unstale.record import USED

if TYPE_CHECKING:
    from unstale.engines.base import Plan
    from unstale.record import Run

__all__ = ["ProgressBar", "RunsBar"]

_EVERY = 0.25  # seconds between refreshes: one costs about a millisecond
_EVERY_IN_FILES = 30.0  # where lines stay, as in a log
_LONGEST_BAR = 20
_MOST_WORKERS = 16  # lines


class ProgressBar(Callback):
    """One line: epoch, loss, score, mean delay, mean gap, pushes per second; means are since the line before.

    Of a real run, the workers alive instead of the gap, and a line for each with its delay and speed; what happens to
    them stays above. In a file instead of a terminal, a line every half minute, and none for workers.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, force_jupyter=False)
        self._live = self._console.is_terminal
        self._every = _EVERY if self._live else _EVERY_IN_FILES
        self._epochs = 0.0
        self._score_name = "score"
        self._score: float | None = None  # until it is evaluated
        self._drawn = 0.0
        self._sums = self._told = _Sums()
        self._rate = 0.0
        self._progress = 0.0
        self._workers: Sequence[Mapping[str, Any]] = ()
        self._screen: Live | None = None

    def on_start(self, plan: Plan) -> None:
        """Look at how long it will be."""
        self._epochs, self._score_name = plan.epochs, plan.task.score_name
        self._drawn = time.perf_counter()

    def on_push(self, row: Mapping[str, Any]) -> None:
        """Draw, if the last time is long enough ago."""
        self._sums.add(row)
        self._progress = row["progress"]
        self._draw_if_due()

    def on_evaluation(self, row: Mapping[str, Any]) -> None:
        """Remember the score."""
        self._score = row["score"]

    def on_stats(self, stats: Mapping[str, Any]) -> None:
        """How the workers are."""
        self._workers = stats["workers"]
        if self._live and self._screen is None:
            self._screen = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
            self._screen.start()
        self._draw_if_due()

    def on_incident(self, worker: int, reason: str) -> None:
        """A line that stays."""
        line = Text(f"worker {worker}: {in_short(reason)}", "yellow")
        if self._live and self._screen is None:
            line.truncate(self._room, pad=True)  # over what is there
        self._console.print(line, soft_wrap=self._screen is None)

    def on_end(self, run: Run) -> None:
        """The last line stays."""
        self._workers = run.members
        if len(run.evaluations):
            self._progress = float(run.evaluations["progress"].iloc[-1])
            self._draw(time.perf_counter(), last=True)
        if self._screen is not None:
            self._screen.stop()
        elif self._live:
            self._console.print()

    @property
    def _room(self) -> int:
        return self._console.width - 1  # the last column would begin a new line on some terminals

    def _draw_if_due(self) -> None:
        now = time.perf_counter()
        if now - self._drawn >= self._every:
            self._draw(now)

    def _draw(self, now: float, *, last: bool = False) -> None:
        line = self._line(now)
        if self._screen is not None:
            most = 0 if last else min(_MOST_WORKERS, self._console.height - 3)
            self._screen.update(Group(line, *worker_lines(self._workers, self._room, most)), refresh=True)
        else:
            self._console.print(line, end="\r" if self._live else "\n", soft_wrap=True)

    def _line(self, now: float) -> Text:
        if self._sums.n:
            self._told, self._rate = self._sums, self._sums.n / max(now - self._drawn, 1e-9)
        line = Text.assemble(
            f" epoch {self._progress:.1f}/{self._epochs:g}",
            f"  loss {self._told.mean('loss'):.3g}",
            ("" if self._score is None else f"  {self._score_name} {self._score:.4g}", "bold"),
            f"  delay {self._told.mean('delay'):.1f}",
            self._alive() if self._workers else f"  gap {self._told.mean('gap'):.1e}",
            f"  {self._rate:.0f}/s",
        )
        line = Text(bar(self._progress / self._epochs, min(_LONGEST_BAR, self._room - line.cell_len)), "cyan") + line
        line.truncate(self._room, pad=self._live)
        self._sums, self._drawn = _Sums(), now
        return line

    def _alive(self) -> str:
        alive = sum(worker["state"] not in AWAY for worker in self._workers)
        return f"  {alive}/{len(self._workers)} workers"


class _Sums:
    """Of what is averaged between two refreshes: ``n`` pushes, of which those count whose tickets did."""

    def __init__(self) -> None:
        self.n = 0
        self._of: dict[str, list[float]] = {"loss": [], "delay": [], "gap": []}

    def add(self, row: Mapping[str, Any]) -> None:
        self.n += 1
        if row["outcome"] in VOID:
            return
        for name, values in self._of.items():
            if name != "gap" or row["outcome"] in USED:  # what changed nothing has none
                values.append(row[name])

    def mean(self, name: str) -> float:
        values = self._of[name]
        return sum(values) / len(values) if values else math.nan


class RunsBar(Watcher):
    """One bar over many runs: how many are done, what is running, how long it will take.

    A context manager. Nothing is drawn where standard error is no terminal, apart from failures.
    """

    def __init__(self, total: int, done: int, jobs: int, console: Console | None = None, what: str = "runs") -> None:
        self._console = console or Console(stderr=True)
        self._running: list[Trial] = []
        self._progress = Progress(
            TextColumn(what),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[running]}"),
            console=self._console,
            disable=not self._console.is_terminal,
            refresh_per_second=4,
        )
        self._task = self._progress.add_task(what, total=total, completed=done, running="")
        already = f", {done} of them finished already" if done else ""
        self._console.print(f"{total} {what}{already}; {jobs} at a time", style="dim", highlight=False)

    def __enter__(self) -> RunsBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_start(self, trial: Trial) -> None:
        """Show it among those that run."""
        self._show([*self._running, trial])

    def on_done(self, trial: Trial, failure: Failure | None) -> None:
        """Count it; a failure is told at once."""
        if failure is not None:
            self._console.print(Text(f"failed: {failure}", style="red"))
        self._show([other for other in self._running if other != trial])
        self._progress.advance(self._task)

    def _show(self, running: list[Trial]) -> None:
        self._running = running
        names = " ".join(f"{trial.label}×{trial.workers}" for trial in running)
        self._progress.update(self._task, running=names)
