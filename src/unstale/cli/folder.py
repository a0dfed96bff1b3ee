"""What the folder of a run may hold, and what can be done with it: begin there, go on, or leave it alone."""

from __future__ import annotations

import shlex
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from unstale.cli.output import say, say_warning
from unstale.errors import ArgumentError, StoreError
from unstale.events import EVENTS, SERVED, has_events

if TYPE_CHECKING:
    from unstale.checkpoint import Checkpoints
    from unstale.record import Run

__all__ = ["check_ended", "check_free", "finished_in", "kept_in", "needs_out", "resume_command", "same_folder"]


def needs_out(out: Path | None, **given: bool) -> None:
    """Options that write to a folder, whose names are as in Python, must have one."""
    for name, said in given.items():
        if said and out is None:
            option = f"--{name.replace('_', '-')}"
            raise ArgumentError(f"{option} must come with --out, a folder to write to, got it alone; add --out FOLDER")


def same_folder(out: Path | None, resume: Path) -> None:
    """A run that goes on stays where it is."""
    if out is not None and out.resolve() != resume.resolve():
        raise ArgumentError(f"--out must be the folder of --resume, {resume}, got {out}; leave it out")


def check_free(out: Path) -> None:
    """Better now than after the training."""
    from unstale.checkpoint import numbers
    from unstale.experiments.request import CHECKPOINTS
    from unstale.experiments.store import COMPARISON
    from unstale.storage import CONFIG, usable_folder

    if numbers(out / CHECKPOINTS):
        raise StoreError(
            f"{out} holds an unfinished run; go on with it ({resume_command(out)}), or choose another folder for --out"
        )
    for name, what in ((CONFIG, "a run"), (COMPARISON, "a comparison"), (EVENTS, "a run that did not end")):
        if (out / name).exists():
            raise StoreError(f"{out} holds {what} already; choose another folder for --out")
    usable_folder(out)


def check_ended(folder: Path) -> None:
    """What has not ended can be neither drawn nor replayed."""
    from unstale.experiments.request import CHECKPOINTS, REQUEST
    from unstale.storage import CONFIG

    begun = any((folder / name).exists() for name in (SERVED, REQUEST, CHECKPOINTS))
    if begun and not (folder / CONFIG).exists():
        raise StoreError(
            f"{folder} holds a run that has not ended; wait for it, or if nothing is at work there, go on with "
            f"{resume_command(folder)}"
        )


def kept_in(folder: Path | None, every: int | None) -> tuple[Path | None, Checkpoints | None]:
    """Where to go on from with the unfinished run in ``folder``, and which checkpoints are to be written there.

    For the latter, None is those of before, if there are some. There is nowhere to go on from in a new folder, nor if
    a run was killed before its first checkpoint: then it begins anew, and what its log has is kept beside.
    """
    from unstale.checkpoint import Checkpoints, numbers
    from unstale.experiments.request import CHECKPOINTS
    from unstale.storage import CONFIG

    if every is not None and every < 1:
        raise ArgumentError(f"--checkpoint-every must be at least 1, got {every}; pass 1 or more")
    if folder is None:
        return None, None
    kept = folder / CHECKPOINTS
    told = None if every is None else Checkpoints(kept, pushes=every, seconds=None)
    if numbers(kept):
        return kept, told
    if (folder / CONFIG).exists():
        raise StoreError(
            f"{folder} holds a run that was interrupted, and no checkpoint to go on from; keep it, and choose another "
            "folder for a new one (--out)"
        )
    if has_events(folder / EVENTS):
        beside = next(path for n in count(1) if not (path := folder / f"{EVENTS}-{n}").exists())
        (folder / EVENTS).rename(beside)
        say_warning(f"{folder} has no checkpoint to go on from: the run begins anew; its log until now is in {beside}")
    return None, told or Checkpoints(kept)


def finished_in(folder: Path, quiet: bool) -> Run | None:
    """The run in a folder, if it is finished, which is said then: there is nothing to go on with."""
    from unstale.record import Run
    from unstale.storage import CONFIG

    if not (folder / CONFIG).exists() or _status(folder / CONFIG) != "finished":
        return None
    run = Run.load(folder)
    if not quiet:
        say(f"{folder} holds a finished run: there is nothing to resume")
    return run


def _status(config: Path) -> str:
    """Of one that did not end there may be less than `Run.load` reads."""
    from unstale.storage import read_json

    run = read_json(config).get("run")
    return str(run.get("status")) if isinstance(run, dict) else ""


def resume_command(folder: Path) -> str:
    """How to go on."""
    command = "serve" if (folder / SERVED).exists() else "train"
    return f"unstale {command} --resume {shlex.quote(str(folder))}"
