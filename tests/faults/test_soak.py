"""Small versions of the soak, and memory that stays flat over thousands of pushes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.crashes import in_a_folder
from tests.faults.inject import At, ended, started
from tests.faults.soak import soak


def test_a_server_that_is_killed_again_and_again_loses_nothing() -> None:
    in_a_folder(kills=5, server_kills=2, epochs=30)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dana_ga", "sync"])
def test_many_kills_of_the_server_lose_nothing(method: str) -> None:
    in_a_folder(kills=15, server_kills=8, epochs=80, method=method, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dana_ga", "sync"])
def test_random_kills_lose_nothing(method: str) -> None:
    soak(kills=15, epochs=40, method=method)


@pytest.mark.slow
def test_descriptors_and_memory_stay_flat() -> None:
    class Watch(At):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[tuple[int, int]] = []

        def on_push(self, row: Mapping[str, Any]) -> None:
            if row["push"] % 500 == 499:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                self.seen.append((len(list(Path("/proc/self/fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE")))

    at = Watch()
    ended(started(at=at, epochs=400, eval_every=100), 3200)
    descriptors, sizes = zip(*at.seen, strict=True)
    assert descriptors[-1] <= descriptors[0] + 2
    # History and log keep some hundred bytes of each push.
    assert sizes[-1] - sizes[1] < 16 << 20
