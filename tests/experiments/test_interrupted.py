"""Ctrl-C leaves neither a locked database nor a lock that the end of the worker processes waits for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from unstale.experiments.outline import Trial
from unstale.experiments.points import Outcome
from unstale.experiments.pool import Watcher, carry_out
from unstale.experiments.space import make_space
from unstale.experiments.study import Study, opened

POINT = {"lr": 0.1, "momentum": 0.5}
SPACE = make_space(None, {name: [value] for name, value in POINT.items()})


ACCESSES: dict[str, Callable[[Study], object]] = {
    "ask": lambda study: study.ask(POINT),
    "tell": lambda study: study.tell(0, Outcome((1.0,), diverged=0, pruned=False, seconds=0.1)),
    "fail": lambda study: study.fail(0, "broken"),
    "recover": Study.recover,
    "trials": Study.trials,
}


def statements(study: Study, access: Callable[[Study], object], strike: bool) -> list[str]:
    """What the database was told; with ``strike``, Ctrl-C comes before the first statement."""
    from sqlalchemy import event

    engine: Any = study._study._storage._backend.engine  # type: ignore[attr-defined]
    told: list[str] = []

    def before(connection: object, cursor: object, statement: str, *_: object) -> None:
        told.append(statement)
        if strike and len(told) == 1:
            signal.raise_signal(signal.SIGINT)

    event.listen(engine, "before_cursor_execute", before)
    try:
        with pytest.raises(KeyboardInterrupt) if strike else nullcontext():
            access(study)
    finally:
        event.remove(engine, "before_cursor_execute", before)
    return told


@pytest.mark.parametrize("name", ACCESSES)
def test_the_database_hears_a_whole_access_or_none(name: str, tmp_path: Path) -> None:
    """A connection left in the middle of one would keep the file locked from the next."""
    told = []
    for strike in (False, True):
        folder = tmp_path / str(strike)
        folder.mkdir()
        with opened(folder, SPACE, True) as study:
            study.ask(POINT)
            told.append(statements(study, ACCESSES[name], strike))
    assert told[0] == told[1] != []


class Striking(Future[Any]):
    """Ctrl-C comes when its lock has just been taken, as by `concurrent.futures.wait`."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = _Lock(self._condition)  # type: ignore[assignment]


class _Lock:
    def __init__(self, real: Any) -> None:
        self._real, self.struck = real, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def acquire(self) -> bool:
        taken: bool = self._real.acquire()
        if not self.struck:
            self.struck = True
            signal.raise_signal(signal.SIGINT)
        return taken

    def __enter__(self) -> Any:
        return self._real.__enter__()

    def __exit__(self, *error: object) -> None:
        self._real.__exit__(*error)


class Waiting:
    """A lane and those who have it; nothing ever comes of what it is given."""

    count, alone, tries, death = 1, False, 1, "none"

    def __init__(self) -> None:
        self.given = Striking()
        self.closed = False

    def give(self, trial: Trial) -> Future[Any]:
        return self.given

    def outcome(self, trial: Trial, future: Future[Any]) -> None:
        raise AssertionError("it is never done")

    @contextmanager
    def lanes(self, runs: object) -> Iterator[Callable[[], Waiting]]:
        try:
            yield lambda: self
        finally:
            self.closed = True


def test_no_future_stays_locked() -> None:
    hands = Waiting()
    with pytest.raises(KeyboardInterrupt):
        carry_out(None, [Trial("ga", 1, 0)], hands, Watcher())  # type: ignore[arg-type]
    assert hands.closed
    free: list[bool] = []

    def other() -> None:
        free.append(hands.given._condition._lock.acquire(blocking=False))  # type: ignore[attr-defined]

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert free == [True]
