from __future__ import annotations

import pytest

from tests.cli.run import Command


@pytest.fixture
def unstale_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(capsys, monkeypatch)
