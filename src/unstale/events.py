"""What happened at the server, call by call, in its order: enough to let it happen again.

The log is a folder of Parquet files, each written whole under another name and then renamed, so that a reader sees
complete pieces only. What is in memory when the process dies is lost; a checkpoint writes it out first.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from unstale.disk import sync_folder
from unstale.errors import StoreError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "EVENTS", "SERVED", "Event", "EventLog", "Kind", "has_events", "read_events", "read_events_of"]

EVENTS = "events"  # the folder's name, in that of a run
SERVED = "served.json"  # there, too: what `unstale serve` was told

Kind = Literal["join", "pull", "exchange", "push", "depart", "expire", "cancel", "flush", "resume"]

COLUMNS = {
    "seq": "int64",
    "time": "float64",
    "kind": "str",
    "worker": "int64",
    "ticket": "int64",
    "batch": "int64",
    "version": "int64",
    "lr": "float64",
    "outcome": "str",
    "reply": "int64",
    "got": "float64",
    "began": "float64",
    "ended": "float64",
}


class Event(NamedTuple):
    """One call of the server, or what came of one.

    kind: join · pull · exchange · push · depart · expire are calls; cancel (a push made a ticket void) and flush (a
        gather was emptied by a departure) came of one; resume: a server went on from a checkpoint, and ``ticket`` is
        the ``seq`` of the first event that it does not know of.
    time: seconds since the start of the run. version: of the parameters, after it.
    outcome: of a push, as in `Receipt`; of a pull, "issued" or "waits"; of a departure, "failed" or "left".
    reply: of an exchange, the ticket that was handed out with it; -1 for none: the worker waits.
    got, began, ended: of a push, when its worker had the ticket, began to compute and was done, in the same seconds.
    """

    seq: int
    time: float
    kind: Kind
    worker: int = -1
    ticket: int = -1
    batch: int = -1
    version: int = -1
    lr: float = 0.0
    outcome: str = ""
    reply: int = -1
    got: float = 0.0
    began: float = 0.0
    ended: float = 0.0


class EventLog:
    """Collects events, and writes them to ``folder`` piece by piece; without a folder, keeps them.

    A piece is written after so many ``events`` or ``seconds``, whichever comes first. ``more``: whether the folder may
    hold some already, of a run that goes on. Raises `StoreError` for a folder that cannot be used.
    """

    def __init__(
        self, folder: Path | None = None, *, more: bool = False, events: int = 4096, seconds: float = 10.0
    ) -> None:
        self.folder = folder
        self.next = 0
        self._events, self._seconds = events, seconds
        self._rows: list[Event] = []
        self._written = time.monotonic()
        self._failed = 0  # how many rows there were when they could not be written, until they are
        self._piece = 0
        if folder is not None:
            _made(folder)
            if _pieces(folder) and not more:
                raise StoreError(f"{folder} holds the events of a run already; choose another folder")
            self._piece = 1 + max((int(path.stem) for path in _pieces(folder)), default=-1)

    def add(self, time: float, kind: Kind, **about: Any) -> None:
        """The next event."""
        self._rows.append(Event(self.next, time, kind, **about))
        self.next += 1

    def begin_with(self, folder: Path) -> None:
        """What another folder holds is the beginning of this log, too. Raises `StoreError`."""
        self._rows = [Event(*row) for row in read_events(folder).itertuples(index=False)]

    def go_on(self, time: float, seq: int) -> None:
        """A server goes on from its state before event ``seq``: what came after that is not so any more.

        Raises `StoreError` if those before it are not all there.
        """
        pieces = self.folder is not None and _pieces(self.folder)
        known = len(read_events(self.folder, self._rows) if self.folder is not None and pieces else self._rows)
        if known < seq:
            raise StoreError(
                f"{self.folder} holds {known} events, but the checkpoint counts on {seq} events before it; pass "
                "record= as when the run began"
            )
        self._rows = [row for row in self._rows if row.seq < seq]
        self.next = seq
        self.add(time, "resume", ticket=seq)

    def write_if_due(self) -> None:
        """Where there is a folder. If that fails it warns once, keeps them, and tries again when it is due again."""
        full = len(self._rows) - self._failed >= self._events
        if self.folder is None or not (full or time.monotonic() - self._written > self._seconds):
            return
        try:
            self.write()
        except StoreError as error:
            if not self._failed:
                warnings.warn(f"{error}; until then events are kept in memory", RuntimeWarning, stacklevel=2)
            self._failed = len(self._rows)

    def write(self) -> None:
        """Write out what is in memory. Raises `StoreError` if that fails; what is not written is still in memory."""
        self._written = time.monotonic()
        if self.folder is None or not self._rows:
            return
        target = self.folder / f"{self._piece:06d}.parquet"
        partial = target.with_suffix(".writing")
        try:
            _frame(self._rows).to_parquet(partial, index=False)
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            partial.replace(target)
            self._piece += 1
            self._rows.clear()
            self._failed = 0
            sync_folder(self.folder)  # a checkpoint that counts on it may be next
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StoreError(f"cannot write {target}: {error.strerror or error}; free some space") from error

    def closing(self) -> pd.DataFrame | None:
        """All of it, written out, for a run that ends; None where nothing happened.

        What it cannot write is in the frame all the same. Where its folder was damaged meanwhile, it warns and gives
        None: a run is worth more than its log.
        """
        with suppress(StoreError):
            self.write()
        try:
            return self.frame() if self.next else None
        except StoreError as error:
            with suppress(RuntimeWarning):  # also where warnings are errors
                warnings.warn(f"{error}; the run is kept without its events", RuntimeWarning, stacklevel=2)
            return None

    def frame(self) -> pd.DataFrame:
        """All of it, one row per event."""
        if self.folder is None or not self.next:
            return _frame(self._rows)
        return read_events(self.folder, self._rows)


def event_log(record: str | Path | None, checkpoints: Path | None, resume: Path | None) -> EventLog:
    """In the folder ``record``; by default beside the checkpoints, if there are any, for they count on it."""
    if record is not None:
        return EventLog(Path(record), more=resume is not None)
    if resume is None or checkpoints is None or checkpoints.resolve() == resume.resolve():
        kept = checkpoints or resume
        return EventLog(None if kept is None else kept / EVENTS, more=resume is not None)
    log = EventLog(checkpoints / EVENTS)
    log.begin_with(resume / EVENTS)
    return log


def has_events(folder: Path) -> bool:
    """Whether some have been written there."""
    return bool(_pieces(folder))


def read_events(folder: Path, more: Iterable[Event] = ()) -> pd.DataFrame:
    """The events that count, in order: those that a resumed server did not know of are left out.

    Raises `StoreError` if there are none, or a piece is damaged or missing.
    """
    import pandas as pd

    parts = [_read(path) for path in _pieces(folder)]
    rows = list(more)
    if not parts and not rows:
        raise StoreError(f"{folder} holds no events; only real runs, with engine='processes' or 'ray', write them")
    found = pd.concat([*parts, *([_frame(rows)] if rows else [])], ignore_index=True)
    for at in found.index[found["kind"] == "resume"]:
        unknown = (found.index < at) & (found["seq"] >= found.loc[at, "ticket"])
        found = found[~unknown]
    found = found.reset_index(drop=True)
    if found["seq"].to_list() != list(range(len(found))):
        missing = next(n for n, seq in enumerate(found["seq"]) if n != seq)
        raise StoreError(f"{folder} is damaged: event {missing} is missing; restore its file from a copy")
    return found


def read_events_of(run: Path) -> pd.DataFrame:
    """As `read_events`, of the run in this folder; it need not have come to its end."""
    return read_events(run / EVENTS if (run / EVENTS).is_dir() else run)


def _frame(rows: Sequence[Event]) -> pd.DataFrame:
    import pandas as pd

    columns: Iterable[Any] = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    return pd.DataFrame(
        {name: pd.Series(values, dtype=kind) for (name, kind), values in zip(COLUMNS.items(), columns, strict=True)}
    )


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path, columns=list(COLUMNS)).astype(COLUMNS)
    except Exception as error:  # pyarrow has errors of many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{path} is damaged ({reason}); restore it from a copy") from error


def _pieces(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.parquet") if path.stem.isdecimal())


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.writing"):
            leftover.unlink()
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
