from __future__ import annotations

import signal

import pytest

from tests.cli.run import Command

# A shell without job control has what it starts in the background ignore Ctrl-C, which tests send themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def unstale_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsys, monkeypatch)
