"""A nursery whose trainer dies at the worst moment ends, and says nothing."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.faults.left import until
from unstale.engines.live.nursery import Nursery


def test_with_a_report_that_nobody_has_read(capfd: pytest.CaptureFixture[str]) -> None:
    home = Nursery()
    nothing = os.open(os.devnull, os.O_RDONLY)
    home.start((nothing, nothing, nothing))  # which ends at once, for that is no socket
    os.close(nothing)
    assert home._reports.poll(60_000)
    home._socket.close()
    assert home.process.wait(60) == 0
    assert not capfd.readouterr().err


def test_with_a_report_that_it_is_about_to_send(capfd: pytest.CaptureFixture[str]) -> None:
    home, (setup, waits), (mine, theirs) = Nursery(), os.pipe(), socket.socketpair()
    home.start((theirs.fileno(), setup, setup))  # which waits for its setup
    place = Path(f"/proc/{home.process.pid}")
    until(lambda: bool(children(place)), "no worker is there")
    (worker,) = children(place)
    sent(signal.SIGSTOP, home.process.pid, "T")
    sent(signal.SIGKILL, worker, "Z")
    home._socket.close()
    os.kill(home.process.pid, signal.SIGCONT)
    assert home.process.wait(60) == 0
    assert not capfd.readouterr().err
    for descriptor in (setup, waits):
        os.close(descriptor)
    mine.close()
    theirs.close()


def sent(number: int, process: int, state: str) -> None:
    os.kill(process, number)
    until(lambda: f"State:\t{state}" in Path(f"/proc/{process}/status").read_text(), "it goes on")


def children(place: Path) -> list[int]:
    return [int(child) for child in (place / "task" / place.name / "children").read_text().split()]
