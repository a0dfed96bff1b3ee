"""Replay of recorded durations."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from unstale import checks
from unstale.checks import number
from unstale.clocks.base import Clock, for_workers
from unstale.clocks.schedule import TILE, FloatArray, IntArray, Tiles
from unstale.errors import ArgumentError, DataError

if TYPE_CHECKING:
    from unstale.record import Run

__all__ = ["Trace"]

_HEADER = ["worker", "duration"]


@dataclass(frozen=True)
class Trace(Clock):
    """Job j of worker i takes the j-th duration of recording i mod n, from its start again when it is exhausted.

    recordings: one tuple of positive durations for each of the n recorded workers; lengths may differ. Or the folder
        of a real run, or a CSV file, that they are read from, see `read`.
    Workers from n on begin somewhere in their recording, which the seed decides: a cluster larger than the recorded
    one, whose workers do not move in step. For the first n workers the seed changes nothing.
    Mean and spread: those of the recording. Unit: that of the recording, say seconds.
    Raises: ArgumentError where there is no recording, an empty one, or a duration that is not positive; as `read` for a
        folder or a file.
    """

    name: ClassVar[str] = "trace"
    summary: ClassVar[str] = "replays recorded durations"
    source: ClassVar[str] = "none needed: your own recording"

    recordings: tuple[tuple[float, ...], ...] | str | Path

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.recordings
        if isinstance(given, str | Path):
            given = _recordings_in(given)
        if not isinstance(given, tuple | list) or not given:
            raise ArgumentError(
                f"recordings must be a tuple with a tuple of durations for each worker, got {given!r}; for one worker "
                "pass ((1.0, 1.2),), or pass the folder of a real run, or a CSV file"
            )
        recordings = tuple(_recording(f"recordings[{i}]", durations) for i, durations in enumerate(given))
        object.__setattr__(self, "recordings", recordings)

    def __repr__(self) -> str:
        assert isinstance(self.recordings, tuple)
        jobs = sum(map(len, self.recordings))
        return f"Trace(<{jobs:,} durations of {len(self.recordings):,} workers>, communication={self.communication!r})"

    @classmethod
    def of_run(cls, run: str | Path | Run, *, communication: float = 0.0) -> Trace:
        """How long the workers of a real run took, in seconds; ``run``: itself, or the folder that it was saved in.

        A job lasts from when its worker was sent the ticket until the gradient arrives. Jobs that never came to an
        end, because their worker was lost, are left out; so are workers without a job.
        Raises: StoreError where a folder holds no events; DataError where no job came to its end; ArgumentError for a
        run that was simulated.
        """
        from unstale.events import read_events_of
        from unstale.timing import jobs

        events = read_events_of(Path(run)) if isinstance(run, str | Path) else run.events
        if events is None:
            raise ArgumentError("run must be a real one, with events, got a simulated one; take its clock instead")
        rows = jobs(events)
        rows = rows.assign(duration=(rows["arrived"] - rows["sent"]).round(6)).query("duration > 0")
        if not len(rows):
            raise DataError(f"{run} has no job that came to its end; record a longer run")
        recordings = tuple(tuple(own["duration"].to_list()) for _, own in rows.groupby("worker"))
        return cls(recordings, communication=communication)

    @classmethod
    def read(cls, path: str | Path, *, communication: float = 0.0) -> Trace:
        """A trace from a CSV file, or from the folder of a real run, as `of_run`.

        The file has the header ``worker,duration``, then a line for each job, a worker's jobs in order.
        Workers are whole numbers; the recordings are in order of these numbers, gaps closed.
        Raises: DataError, with path and line, where the file cannot be read or a line is damaged; StoreError where a
        folder holds no events.
        """
        return cls(path, communication=communication)

    def _tiles(self, seed: int) -> Tiles:
        assert isinstance(self.recordings, tuple)
        durations = np.concatenate([np.array(recording) for recording in self.recordings])
        length = np.array([len(recording) for recording in self.recordings])
        first = np.cumsum(length) - length

        @functools.lru_cache(maxsize=4096)
        def begin(worker_tile: int) -> IntArray:
            worker = np.arange(worker_tile * TILE, (worker_tile + 1) * TILE)
            somewhere = for_workers(seed, worker_tile).random(TILE) * length[worker % len(length)]
            begin: IntArray = np.where(worker < len(length), 0, somewhere.astype(np.int64))[:, None]
            return begin

        def tile(worker_tile: int, job_tile: int) -> FloatArray:
            recording = np.arange(worker_tile * TILE, (worker_tile + 1) * TILE)[:, None] % len(length)
            job = np.arange(job_tile * TILE, (job_tile + 1) * TILE) + begin(worker_tile)
            picked: FloatArray = durations[first[recording] + job % length[recording]]
            return picked

        return tile


def _recordings_in(place: str | Path) -> Any:
    """See `Trace.read`."""
    if Path(place).is_dir():
        return Trace.of_run(place).recordings
    recordings: dict[int, list[float]] = {}
    for worker, duration in _rows(checks.path("path", place)):
        recordings.setdefault(worker, []).append(duration)
    if not recordings:
        raise DataError(f"{place} has no durations; write a line worker,duration for each job below the header")
    return tuple(tuple(recordings[worker]) for worker in sorted(recordings))


def _recording(name: str, durations: object) -> tuple[float, ...]:
    if not isinstance(durations, tuple | list) or not durations:
        raise ArgumentError(
            f"{name} must be a tuple of at least one duration, got {durations!r}; leave out idle workers"
        )
    remedy = "a duration is the time of one job"
    return tuple(
        number(f"{name}[{j}]", value, lambda x: x > 0, "be positive", remedy) for j, value in enumerate(durations)
    )


def _rows(path: Path) -> Iterator[tuple[int, float]]:
    """Worker and duration of each line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from _parse(path, file)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read the trace {path}: {error}; pass a CSV file with the header worker,duration"
        ) from error


def _parse(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, float]]:
    reader = csv.reader(lines)
    try:
        header = next(reader, [])
        if header != _HEADER:
            raise DataError(
                f"{path}, line 1: the header must be worker,duration, got {','.join(header)!r}; put it there"
            )
        for row in reader:
            if row:
                yield _parse_row(f"{path}, line {reader.line_num}", row)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; write the file again") from error


def _parse_row(place: str, row: list[str]) -> tuple[int, float]:
    try:
        worker, duration = int(row[0]), float(row[1])
        usable = len(row) == 2 and worker >= 0 and 0 < duration < float("inf")
    except (ValueError, IndexError):
        usable = False
    if not usable:
        rule = "a line must be a worker (0, 1, …) and a positive duration"
        raise DataError(f"{place}: {rule}, got {','.join(row)!r}; correct or remove it")
    return worker, duration
