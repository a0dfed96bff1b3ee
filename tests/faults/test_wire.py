"""Bytes that are damaged on their way from a worker to the server, at an exact push: told, and done again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.engines.problems import blobs
from tests.faults import wire
from tests.faults.faulty import Faulty
from tests.faults.inject import At, ended, plan, started
from tests.faults.wire import CHECKSUM, HEADER, KIND, LENGTH, MAGIC, PAYLOAD, Change, Damages, flipped
from unstale.clocks import Gamma
from unstale.engines.replay import repeat

BEGINS, SENSE = "it sent a message that does not begin like one", "it sent a message that makes no sense"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(flipped(MAGIC), BEGINS, id="magic"),
        pytest.param(flipped(KIND), BEGINS, id="kind"),
        pytest.param(flipped(LENGTH), BEGINS, id="length, a byte too much"),
        pytest.param(flipped(LENGTH + 4, 2), BEGINS, id="length, gigabytes too much"),
        pytest.param(flipped(CHECKSUM), BEGINS, id="checksum of the payload"),
        pytest.param(flipped(HEADER), BEGINS, id="checksum of the header"),
        pytest.param(flipped(PAYLOAD), "it sent a message whose checksum is wrong", id="payload"),
        (wire.and_garbage, BEGINS),
        (wire.too_short, SENSE),
        (wire.no_tensors, "it sent tensors that cannot be read"),
        (wire.with_memory, "memory is for a server with streams"),
        (wire.as_a_ticket, SENSE),
        (wire.up_again, SENSE),
        (wire.nearly_all, "killed by SIGKILL"),
        (wire.half_a_header, "killed by SIGKILL"),
    ],
)
def test_a_worker_that_sends_nonsense_is_lost_and_its_batch_is_not(change: Change, told: str, tmp_path: Path) -> None:
    at = At()
    # At a pace, so that whoever reads batch 5 has another push to make.
    run = ended(started(Faulty(blobs(), 5, Damages(change, "SIGKILL" in told), tmp_path), at=at, pace=Gamma(mean=0.01)))
    assert len(at.incidents) == 1
    assert told in at.reasons
    assert not run.quarantined
    assert run.events is not None
    again = repeat(plan(), run.events)
    assert all(torch.equal(again.params[name], value) for name, value in run.params.items())
