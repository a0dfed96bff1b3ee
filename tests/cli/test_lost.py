"""Ctrl-C ends a command wherever it strikes."""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

import pytest
import typer

from unstale.cli.output import running


class Struck:
    """As if Ctrl-C came while this is cleaned away: Python prints such an exception, and goes on."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_in_a_finalizer_too(capsys: pytest.CaptureFixture[str]) -> None:
    @running(lambda: "something is kept")
    def work() -> None:
        Struck()
        time.sleep(30)

    with pytest.raises(typer.Exit) as ended:
        work()
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted: something is kept\n"


class Broken:
    def __del__(self) -> None:
        raise ValueError("no good")


def test_other_exceptions_there_are_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with running(lambda: "nothing"):
        Broken()
    assert told == [ValueError]
