"""Compiled or in blocks: the same method, only faster; and slower but right where there is no compiler."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from unstale.errors import ArgumentError
from unstale.flat import Group
from unstale.kernels import Blocks, Operands, native
from unstale.methods import get
from unstale.methods.block import Block
from unstale.methods.steps import Outcome
from unstale.server import Server
from unstale.testing import Drive, smooth, start, uneven
from unstale.testing.laws import decaying

GROUPS = [Group(slice(0, 40), lr_scale=0.5, weight_decay=0.0)]


@pytest.mark.parametrize("spec", ["dana_ga", "ga(per=layer)", "fedbuff(buffer=3)"])
def test_compiled_steps_are_the_same_steps(spec: str) -> None:
    servers = [
        Server(start(100), get(spec), 3, weight_decay=0.02, groups=GROUPS, executor=executor)
        for executor in ("blocks", "compiled")
    ]
    runs = [Drive(server, smooth()).run(uneven(3), 12, decaying) for server in servers]
    torch.testing.assert_close(servers[0].params, servers[1].params, rtol=1e-10, atol=1e-12)
    for one, other in zip(*runs, strict=True):
        assert one.receipt.outcome == other.receipt.outcome
        assert other.receipt.gap == pytest.approx(one.receipt.gap, rel=1e-9)
        assert other.receipt.penalty == pytest.approx(one.receipt.penalty, rel=1e-9)


def test_without_a_compiler_it_goes_on_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(native, "build", broken)
    server = Server(start(), "dana_ga", 2, executor="compiled")
    with pytest.warns(RuntimeWarning, match="no compiler here.*going on in blocks"):
        Drive(server, smooth()).run(uneven(2), 1, 0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Drive(server, smooth()).run(uneven(2), 5, 0.05)
    plain = Server(start(), "dana_ga", 2)
    for count in (1, 5):
        Drive(plain, smooth()).run(uneven(2), count, 0.05)
    assert torch.equal(server.params, plain.params)


@pytest.mark.parametrize("size", [0, 1000, 1023, -1024, 2.5])
def test_blocks_are_whole_stretches(size: Any) -> None:
    with pytest.raises(ArgumentError, match="multiple of 1024 elements"):
        Blocks(size)


def test_numbers_are_written_after_the_last_block() -> None:
    """Every block must see the counter as it was."""

    def count(x: Block) -> Outcome:
        return Outcome({"theta": x.theta + x.counter, "counter": x.counter + 1}, {"ones": torch.ones_like(x.theta)})

    theta, counter = torch.zeros(3000), torch.zeros((), dtype=torch.float64)
    layout = Server(torch.zeros(3000), "asgd", 1).layout
    spans = [(span, dict[str, Any]()) for span in layout.spans]
    for push in range(3):
        sums = Blocks(1024).run(count, Operands({"theta": theta, "counter": counter}, spans))
        assert sums == {"ones": 3000.0}
        assert float(counter) == push + 1
    assert torch.equal(theta, torch.full((3000,), 3.0))
