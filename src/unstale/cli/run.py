"""One run, from its plan to what is said of it; in a folder it can be taken up again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstale.callbacks import Callback
from unstale.cli.folder import resume_command
from unstale.cli.members import print_members
from unstale.cli.output import print_json, running, say
from unstale.errors import UnstaleError
from unstale.events import EVENTS

if TYPE_CHECKING:
    from unstale.checkpoint import Checkpoints
    from unstale.engines import Plan
    from unstale.experiments.request import Request
    from unstale.record import Run

__all__ = ["Last", "carry_out", "report", "summary_line"]


def carry_out(
    request: Request,
    plan: Plan,
    folder: Path | None,
    checkpoints: Checkpoints | None,
    resume: Path | None,
    *,
    tensorboard: bool,
    quiet: bool,
    json: bool,
) -> None:
    """Train, save, tell. Checkpoints go when the run is finished and saved.

    What was computed is saved, too, of a run that is interrupted, or of a real one that fails.
    """
    import unstale
    from unstale.engines import Arranged, carried_out
    from unstale.experiments.request import live_of
    from unstale.progress import ProgressBar

    real, last = request.engine != "simulate", Last()
    watching: tuple[Callback, ...] = (last,) if quiet else (ProgressBar(), last)
    if tensorboard and folder is not None:
        watching = (*watching, unstale.TensorBoard(folder / "tensorboard"))
    live = live_of(request.live, folder / EVENTS if real and folder is not None else None)
    with last.saved_in(folder, failed=real):
        run = carried_out(request.engine, Arranged(plan, live, watching, checkpoints, resume))
    report(run, folder, quiet, json)


class Last(Callback):
    """The run as it ended, however it did."""

    run: Run | None = None

    @contextmanager
    def saved_in(self, folder: Path | None, *, failed: bool) -> Iterator[None]:
        """What is trained in the block is saved, also when it is interrupted, and with ``failed`` when it fails."""
        kept = ["nothing is kept without --out" if folder is None else f"nothing could be saved in {folder}"]
        with running(lambda: kept[0]):
            try:
                yield
            except (KeyboardInterrupt, UnstaleError) as error:
                if folder is not None and self.run is not None and (failed or self.run.status != "failed"):
                    self.run.save(folder, overwrite=True)
                    kept[0] = f"{len(self.run.history):,} pushes are saved in {folder}{_how(self.run, folder)}"
                    error.add_note(kept[0])
                raise
            if folder is not None and self.run is not None:
                _save(self.run, folder)

    def on_end(self, run: Run) -> None:
        """See `Callback`."""
        self.run = run


def report(run: Run, folder: Path | None, quiet: bool, json: bool) -> None:
    """What became of a run, and where it is."""
    summary = run.summary()
    if json:
        where = None if folder is None else str(folder)
        about = {"config": dict(run.config), "summary": summary, "folder": where}
        print_json(about | ({"members": list(run.members)} if run.members else {}))
    elif not quiet:
        say(summary_line(run.config, summary))
        print_members(run.members, summary)
        if "strategy" in run.config:  # not where scripts computed them
            say(f"gradients: {run.config['strategy']} ({run.config['strategy_reason']})")
        if folder is not None:
            say(f"saved in {folder}; draw it with: unstale show {folder}")


def summary_line(config: Any, summary: Any) -> str:
    """A run in one sentence, from what is saved of it."""
    task, method = config.get("task", {}), config["method"]
    end = "" if summary["status"] == "finished" else f", {summary['status']}"
    pushed = (
        f"{summary['pushes']:,} pushes in {summary['seconds']:.1f} s, mean delay {summary['mean_delay']:.1f}, "
        f"mean normalised gap {summary['mean_normalised_gap']:.3g}"
    )
    if not task:
        return f"scripts of your own, {method.get('name', 'custom')}{end}: {pushed}"
    unit = " %" if task.get("score_name") == "accuracy" else ""
    return (
        f"{task.get('name')} / {task.get('model_name')}, {method.get('name', 'custom')}, N = {config['workers']}, "
        f"seed {config['seed']}: {task.get('score_name')} {summary['score']:.4g}{unit}"
        f"{' (diverged)' if summary['diverged'] else ''}{end}; {pushed}"
    )


def _save(run: Run, folder: Path) -> None:
    from unstale.experiments.request import CHECKPOINTS

    run.save(folder, overwrite=True)
    if run.status == "finished":
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _how(run: Run, folder: Path) -> str:
    from unstale.checkpoint import numbers
    from unstale.experiments.request import CHECKPOINTS

    if run.status == "finished":
        return ", all that there are"
    return f"; go on with: {resume_command(folder)}" if numbers(folder / CHECKPOINTS) else ""
