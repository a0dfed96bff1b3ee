"""On a GPU: the same method, the same figures. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

import unstale
from unstale import tasks
from unstale.methods import names
from unstale.server import Server
from unstale.testing import Drive, smooth, start, uneven
from unstale.testing.laws import decaying

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.mark.parametrize("name", names())
def test_servers_agree_across_devices(name: str) -> None:
    ends = []
    for device in ("cpu", "cuda"):
        server = Server(start().to(device), name, 3, weight_decay=0.02)
        gradient = smooth()
        drive = Drive(server, lambda point, push, g=gradient: g(point.cpu(), push).to(point.device))  # type: ignore[misc]
        arrivals = drive.run(uneven(3), 30, decaying)
        ends.append((server.params.cpu(), [a.receipt.penalty for a in arrivals]))
    torch.testing.assert_close(ends[0][0], ends[1][0], rtol=1e-9, atol=1e-12)
    assert ends[1][1] == pytest.approx(ends[0][1], rel=1e-9)


def test_training_on_a_gpu() -> None:
    run = unstale.train(tasks.digits(), "dana_ga", 8, lr=0.03, epochs=3, device="cuda")
    assert run.score > 60
