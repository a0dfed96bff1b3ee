"""Compiled or in blocks: the same method, only faster; and slower but right where there is no compiler."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tests.contracts.test_contracts import METHODS
from unstale.errors import ArgumentError
from unstale.flat import Group
from unstale.kernels import Auto, Blocks, Compiled, Operands, native
from unstale.kernels import compiled as compiled_module
from unstale.kernels.loop import source
from unstale.kernels.native import step_threads
from unstale.kernels.trace import UnsupportedError, trace
from unstale.methods import get
from unstale.methods.block import Block
from unstale.methods.steps import Outcome
from unstale.server import Server
from unstale.testing import Drive, smooth, start, uneven
from unstale.testing.laws import decaying

GROUPS = [Group(slice(0, 40), lr_scale=0.5, weight_decay=0.0)]


@pytest.mark.parametrize("spec", ["dana_ga", "ga(per=layer)", "fedbuff(buffer=3)", "ga_adam", "adam(decoupled=True)"])
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


def test_loops_are_what_the_cpu_runs_for_every_method() -> None:
    for name, method in METHODS.items():
        compiled = Compiled()
        server = Server(start(100), method, 3, weight_decay=0.02, executor=compiled)
        Drive(server, smooth()).run(uneven(3), 12, decaying)
        assert {type(step) for step in compiled._steps.values()} == {native.NativeStep}, name


def test_torch_compile_takes_over_and_compiles_each_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many methods one process runs, and whatever η, delay and counters are: one graph a step."""
    monkeypatch.setattr(compiled_module, "fits", lambda operands: False)
    torch._dynamo.utils.counters.clear()
    made = 0
    for name in ("dana", "dana_sa", "dana_ga", "multi_asgd"):  # whose replies are more than θ
        runs = []
        for executor in (Compiled(), Blocks()):
            server = Server(start(50), name, 2, executor=executor)
            Drive(server, smooth()).run(uneven(2), 8, decaying)
            runs.append(server.params)
            made += len(executor._steps) if isinstance(executor, Compiled) else 0
        torch.testing.assert_close(runs[0], runs[1], rtol=1e-10, atol=1e-12)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == made


def test_what_is_no_single_loop_is_told_apart() -> None:
    """A sum over the block is not element-wise: no loop is made of it."""

    def centred(x: Block) -> Outcome:
        return Outcome({"theta": x.theta - x.theta.mean()})

    with pytest.raises(UnsupportedError):
        source(trace(centred, {"theta": torch.zeros(3)}, {}))


def test_loops_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on torch's, nor on those that a step may have besides; nor on whether these are to be had."""
    asked: list[int] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *work: Any, **more: Any) -> Any:
            asked[-1] += 1
            if asked[-1] % 2:
                return super().submit(*work, **more)
            raise RuntimeError("cannot schedule new futures after shutdown")

    pool = Pool(3)
    monkeypatch.setattr(native, "_threads", lambda count, process: pool)

    def trained() -> tuple[torch.Tensor, list[Any]]:
        asked.append(0)
        server = Server(start(900_000, torch.float32), "dana_ga", 2, executor="compiled")
        arrivals = Drive(server, smooth()).run(uneven(2), 3, 0.05)
        return server.params, [(a.receipt.gap, a.receipt.penalty) for a in arrivals]

    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(trained())
        torch.set_num_threads(1)
        with step_threads(3):
            found.append(trained())
    finally:
        torch.set_num_threads(before)
    assert asked[0] == 0
    assert asked[1] > 0
    assert asked[2] > asked[1], "it may have more than torch"
    for params, figures in found[1:]:
        assert params.equal(found[0][0])
        assert figures == found[0][1]


def test_auto_compiles_when_it_pays() -> None:
    auto = Auto(elements=1000, push=0)
    server = Server(start(100), "dana_ga", 2, executor=auto)
    Drive(server, smooth()).run(uneven(2), 5, 0.05)
    assert not auto._compiled._steps
    Drive(server, smooth()).run(uneven(2), 8, 0.05)
    assert auto._compiled._steps


def test_workers_at_one_version_share_a_snapshot() -> None:
    """And nobody's changes when another one's is written."""
    server = Server(start(), "dana", 3)
    tickets = [server.pull(worker) for worker in range(3)]
    assert len({ticket.params.data_ptr() for ticket in tickets if ticket}) == 1
    first = tickets[0]
    assert first is not None
    kept = first.params.clone()
    server.exchange(first, smooth()(kept, 0), lr=0.1)
    assert all(torch.equal(ticket.params, kept) for ticket in tickets[1:] if ticket)
    own = Server(start(), "multi_asgd", 3)
    assert len({own.pull(worker).params.data_ptr() for worker in range(3)}) == 3  # type: ignore[union-attr]


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


def test_a_departure_ends_a_snapshot() -> None:
    """S loses what the worker had, so the same version now predicts another point."""
    server = Server(start(), "dana", 3)
    drive = Drive(server, smooth())
    drive.run(uneven(3), 6, 0.05)
    server.depart(2)
    ticket = server.pull(0)
    assert ticket is not None
    torch.testing.assert_close(ticket.params, server.params - 0.05 * 0.9 * server.state("S"))


def test_a_gradient_that_does_not_lie_in_one_piece() -> None:
    """Also after a loop was made for one that does."""
    columns = torch.arange(16.0).view(8, 2)
    for executor in ("blocks", "compiled"):
        server = Server(torch.zeros(8), "asgd", 1, executor=executor)
        for gradient in (torch.ones(8), columns[:, 0], torch.ones(1).expand(8)):
            ticket = server.pull(0)
            assert ticket is not None
            server.push(ticket, gradient, lr=1.0)
        assert torch.equal(server.params, -2.0 - columns[:, 0])


def test_a_snapshot_that_was_written_over_is_not_handed_on() -> None:
    server = Server(torch.zeros(4), "asgd", 3)
    first = server.pull(0)
    assert first is not None
    first.params.fill_(-100.0)
    second = server.pull(1)
    assert second is not None
    assert torch.equal(second.params, torch.zeros(4))
