"""One run, from its plan to what is said of it; in a folder it can be taken up again."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstale.cli.output import print_json, running, say

if TYPE_CHECKING:
    from unstale.checkpoint import Checkpoints
    from unstale.engines import Plan
    from unstale.record import Run

__all__ = ["carry_out", "report", "resume_command", "summary_line"]


def carry_out(
    plan: Plan, folder: Path | None, checkpoints: Checkpoints | None, resume: Path | None, quiet: bool, json: bool
) -> None:
    """Train, save, tell. Checkpoints go when the run is finished and saved."""
    from unstale.engines import simulate
    from unstale.errors import Interrupted
    from unstale.progress import ProgressBar

    kept = ["nothing is kept without --out" if folder is None else f"nothing could be saved in {folder}"]
    with running(lambda: kept[0]):
        try:
            run = simulate(plan, () if quiet else (ProgressBar(),), checkpoints=checkpoints, resume=resume)
        except Interrupted as interrupted:
            if folder is not None:
                interrupted.run.save(folder, overwrite=True)
                kept[0] = (
                    f"{len(interrupted.run.history):,} pushes are saved in {folder}{_how(interrupted.run, folder)}"
                )
            raise
        if folder is not None:
            _save(run, folder)
    report(run, folder, quiet, json)


def report(run: Run, folder: Path | None, quiet: bool, json: bool) -> None:
    """What became of a run, and where it is."""
    if json:
        where = None if folder is None else str(folder)
        print_json({"config": dict(run.config), "summary": run.summary(), "folder": where})
    elif not quiet:
        say(summary_line(run.config, run.summary()))
        say(f"gradients: {run.config['strategy']} ({run.config['strategy_reason']})")
        if folder is not None:
            say(f"saved in {folder}; draw it with: unstale show {folder}")


def resume_command(folder: Path) -> str:
    """How to go on."""
    return f"unstale train --resume {shlex.quote(str(folder))}"


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
