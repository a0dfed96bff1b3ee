"""Traces are read from CSV files, and damaged files are refused by path and line; or taken from real runs."""

from pathlib import Path

import pytest

import unstale
from tests.live.logs import crashed
from unstale.clocks import Trace, get
from unstale.errors import ArgumentError, DataError, StoreError
from unstale.events import EventLog


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_bytes(text.encode())
    return path


def test_read(tmp_path: Path) -> None:
    path = write(tmp_path, "worker,duration\n7,1.5\n2,3\n\n7,2e-1\n")
    assert Trace.read(path) == Trace(((3.0,), (1.5, 0.2)))
    assert Trace.read(str(path), communication=0.5) == Trace(((3.0,), (1.5, 0.2)), communication=0.5)


def test_it_says_how_much_it_holds() -> None:
    long = Trace(((1.0,) * 1000, (2.0,) * 500), communication=0.5)
    assert repr(long) == "Trace(<1,500 durations of 2 workers>, communication=0.5)"


def test_read_what_spreadsheets_write(tmp_path: Path) -> None:
    assert Trace.read(write(tmp_path, "\ufeffworker,duration\r\n0,1\r\n")) == Trace(((1.0,),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"trace\.csv, line 1: the header must be worker,duration, got ''"),
        ("time,worker\n1,2\n", r"line 1: the header must be worker,duration, got 'time,worker'"),
        ("worker,duration\n", r"trace\.csv has no durations; write"),
        ("worker,duration\n0,1\n0\n", r"trace\.csv, line 3: a line must be a worker .* got '0'; correct"),
        ("worker,duration\n0,1,2\n", r"line 2: .* got '0,1,2'"),
        ("worker,duration\na,1\n", r"line 2: .* got 'a,1'"),
        ("worker,duration\n-1,1\n", r"line 2: .* got '-1,1'"),
        ("worker,duration\n0,1\n\n0,0\n", r"line 4: .* got '0,0'"),
        ("worker,duration\n0,nan\n", r"line 2: .* got '0,nan'"),
        ("worker,duration\n0,inf\n", r"line 2: .* got '0,inf'"),
        ("worker,duration\n0,soon\n", r"line 2: .* got '0,soon'"),
        ("worker,duration\n0," + "1" * 200_000 + "\n", r"line 2: field larger than field limit"),
    ],
)
def test_damaged_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Trace.read(write(tmp_path, text))


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read the trace .*absent\.csv: .*No such file"):
        Trace.read(tmp_path / "absent.csv")
    with pytest.raises(StoreError, match="holds no events; only real runs"):
        Trace.read(tmp_path)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"worker,duration\n0,\xff\n")
    with pytest.raises(DataError, match=r"cannot read the trace .*binary\.csv"):
        Trace.read(binary)


def test_of_a_run(tmp_path: Path) -> None:
    """From being sent the ticket to the gradient's arrival, without those that never came, or never began."""
    recorded = Trace(((1.0, 1.5, 0.75), (4.0, 2.0)))
    log = crashed(EventLog(tmp_path / "run" / "events"))
    log.write()
    assert Trace.of_run(tmp_path / "run") == Trace.read(str(tmp_path / "run")) == recorded
    assert Trace.of_run(tmp_path / "run" / "events") == Trace(tmp_path / "run") == recorded
    assert get("trace", path=tmp_path / "run", communication=0.5) == Trace(recorded.recordings, communication=0.5)


def test_a_simulated_run_has_a_clock_already(tmp_path: Path) -> None:
    run = unstale.train(unstale.tasks.quadratic(), "asgd", 2, epochs=0.1)
    with pytest.raises(ArgumentError, match="run must be a real one, with events, got a simulated one"):
        Trace.of_run(run)
    with pytest.raises(StoreError, match="holds no events"):
        Trace.of_run(run.save(tmp_path / "run"))


def test_a_run_in_which_nothing_came_to_its_end(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.add(0.0, "join", worker=0)
    log.write()
    with pytest.raises(DataError, match="has no job that came to its end; record a longer run"):
        Trace.read(tmp_path)
