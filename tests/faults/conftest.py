"""The nursery is there before the first test, so that no test waits for its imports."""

from __future__ import annotations

import pytest

from tests.faults.inject import ended, started


@pytest.fixture(scope="package", autouse=True)
def _warm() -> None:
    ended(started())
