"""What is left of a script that is dead, and of whatever it had started: nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def marked(folder: Path) -> dict[str, str]:
    """The environment of a script, by which `family` knows it; its temporary files go into the folder."""
    return os.environ | {"UNSTALE_TEST_RUN": str(folder), "TMPDIR": str(folder)}


def nothing_runs_on(folder: Path, before: set[str]) -> None:
    """No process of the script's, and no shared name that was not there ``before``."""
    until(lambda: not family(folder), "a process is left")
    until(lambda: shared_names() - in_use() <= before, "shared memory, or a semaphore, is left")


def family(folder: Path) -> list[int]:
    """All processes that were started, by whomever, from one script."""
    mark = f"UNSTALE_TEST_RUN={folder}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            alive = "\nState:\tZ" not in (place / "status").read_text()
            if alive and mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def shared_names() -> set[str]:
    """Of memory and semaphores, as torch and Python name theirs."""
    return {path.name for path in Path("/dev/shm").iterdir() if path.name.startswith(("torch_", "psm_", "sem.", "mp-"))}


def in_use() -> set[str]:
    """What living processes have mapped: of other tests, for all of a script's are dead."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            maps = (place / "maps").read_text().splitlines()
            found |= {line.split("/dev/shm/")[1].split()[0] for line in maps if "/dev/shm/" in line}
    return found


def until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)
