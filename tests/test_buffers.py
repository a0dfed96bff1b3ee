"""BatchNorm's statistics and other buffers travel with pulls and pushes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from unstale.buffers import Buffers, Policy
from unstale.errors import ArgumentError
from unstale.server import Server
from unstale.tickets import Ticket


class Twice(nn.Module):
    """Uses one BatchNorm two times in a forward pass, and has a constant and a counting buffer."""

    def __init__(self, momentum: float | None = 0.1) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3, momentum=momentum)
        self.constant: torch.Tensor
        self.seen: torch.Tensor
        self.register_buffer("constant", torch.tensor([2.0]))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        out: torch.Tensor = self.norm(self.norm(x) * self.constant)
        return out


def step(server: Server, model: nn.Module, worker: int, x: torch.Tensor, ticket: Ticket | None = None) -> None:
    ticket = ticket or server.pull(worker)
    assert ticket is not None
    ticket.load(model)
    model(x).square().sum().backward()
    server.push(ticket, model)


def two_at_once(server: Server, model: nn.Module) -> None:
    """Both workers pull before either pushes, on batches of fours and of eights."""
    tickets = [server.pull(0), server.pull(1)]
    for ticket, level in zip(tickets, (4.0, 8.0), strict=True):
        assert ticket is not None
        step(server, model, ticket.worker, torch.full((3, 2), level), ticket)
    server.load_into(model)


@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_one_workers_statistics_are_torchs(momentum: float | None) -> None:
    """η = 0, so that only the buffers move."""
    model, plain = Twice(momentum), Twice(momentum)
    server = Server(model, "asgd", 1, lr=0.0)
    for k in range(4):
        x = torch.randn(6, 3, generator=torch.Generator().manual_seed(k)) + k
        step(server, model, 0, x)
        plain(x)
    server.load_into(model)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(dict(model.named_buffers())[name], value)


def test_shared_statistics_take_pushes_in_order() -> None:
    """Two tickets out at once: neither sees the other's share, and both are folded in."""
    model = nn.BatchNorm1d(2, momentum=0.5)
    server = Server(model, "asgd", 2, lr=0.0)
    two_at_once(server, model)
    assert model.running_mean is not None
    assert model.running_mean.tolist() == [5.0, 5.0], "0.5·(0.5·0 + 0.5·4) + 0.5·8"
    assert model.num_batches_tracked is not None
    assert model.num_batches_tracked.item() == 2


def test_workers_keep_their_own_statistics_and_evaluate_with_their_mean() -> None:
    model = nn.BatchNorm1d(1, momentum=0.5)
    server = Server(model, "asgd", 2, lr=0.0, batch_norm="per-worker")
    step(server, model, 0, torch.tensor([[3.0], [5.0]]))
    step(server, model, 1, torch.tensor([[7.0], [9.0]]))
    server.load_into(model)
    assert model.running_mean is not None
    assert model.running_mean.tolist() == [3.0], "the mean of 2 and 4"
    server.depart(0)
    server.load_into(model)
    assert model.running_mean.tolist() == [4.0]


def test_dropped_pushes_leave_no_trace() -> None:
    model = nn.BatchNorm1d(2, momentum=0.5)
    server = Server(model, "backup", 2, lr=0.0)
    two_at_once(server, model)
    assert model.running_mean is not None
    assert model.running_mean.tolist() == [2.0, 2.0]


def test_frozen_norms_keep_their_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    model[0].eval()
    model[0].running_mean.fill_(3.0)  # type: ignore[operator]
    server = Server(model, "asgd", 1, lr=0.0)
    ticket = server.pull(0)
    assert ticket is not None
    assert ticket.buffers["0.running_mean"].tolist() == [3.0, 3.0]
    step(server, model, 0, torch.ones(4, 2), ticket)
    assert server.buffers.current()["0.running_mean"].tolist() == [3.0, 3.0]


def test_buffers_must_all_come_back() -> None:
    server = Server(nn.BatchNorm1d(2), "asgd", 1, lr=0.1)
    ticket = server.pull(0)
    assert ticket is not None
    with pytest.raises(ArgumentError, match="every buffer of the model, got none called 'running_mean'"):
        server.push(ticket, torch.zeros(4), buffers={})
    with pytest.raises(ArgumentError, match="buffers must come with the gradient of a model with BatchNorm"):
        server.push(ticket, torch.zeros(4))
    wrong = {name: torch.zeros(3) for name in ticket.buffers}
    with pytest.raises(ArgumentError, match=r"buffer 'running_mean' must be torch.float32 of shape \(2,\) on cpu, got"):
        server.push(ticket, torch.zeros(4), buffers=wrong)
    assert server.push(ticket, torch.zeros(4), buffers=ticket.buffers).applied


def test_tickets_own_their_buffers() -> None:
    """A forward pass may update them in place: that must not reach other tickets."""
    model = nn.BatchNorm1d(2)
    server = Server(model, "asgd", 2, lr=0.0)
    for k in range(3):
        ticket = server.pull(0)
        assert ticket is not None
        assert int(ticket.buffers["num_batches_tracked"]) == 0
        buffers = dict(ticket.buffers)
        torch.func.functional_call(model, {**dict(model.named_parameters()), **buffers}, (torch.randn(4, 2),))
        server.push(ticket, torch.zeros(4), buffers=buffers)
        assert int(server.buffers.current()["num_batches_tracked"]) == k + 1


@pytest.mark.parametrize("policy", ["shared", "per-worker", "recalibrate"])
def test_statistics_survive_a_restart(policy: Policy) -> None:
    model = Twice()
    server = Server(model, "asgd", 2, lr=0.1, batch_norm=policy)
    step(server, model, 1, torch.randn(5, 3))
    again = Server(Twice(), "asgd", 2, lr=0.1, batch_norm=policy)
    again.load_state_dict(copy.deepcopy(server.state_dict()))
    for name, value in server.buffers.current().items():
        assert torch.equal(again.buffers.current()[name], value)


def test_tickets_that_are_out_keep_their_buffers_over_a_restart() -> None:
    """What the server has may have changed since they were issued."""

    class Counting(nn.Linear):
        def __init__(self) -> None:
            super().__init__(1, 1)
            self.register_buffer("count", torch.zeros(()))

    server = Server(Counting(), "asgd", 3, lr=0.1)
    first, second, _ = (server.pull(worker) for worker in range(3))
    assert first is not None
    assert second is not None
    server.push(first, torch.zeros(2), buffers={"count": torch.tensor(1.0)})
    server.push(second, torch.zeros(2), buffers={"count": torch.tensor(2.0)})
    server.pull(1)
    again = Server(Counting(), "asgd", 3, lr=0.1)
    again.load_state_dict(copy.deepcopy(server.state_dict()))
    assert {t.worker: float(t.buffers["count"]) for t in again.outstanding()} == {2: 0.0, 1: 2.0}
    again.load_state_dict(again.state_dict())
    assert {t.worker: float(t.buffers["count"]) for t in again.outstanding()} == {2: 0.0, 1: 2.0}


def test_modules_without_buffers_have_none() -> None:
    buffers = Buffers(nn.Linear(1, 1))
    assert not buffers
    assert not buffers.has_running_statistics
    assert buffers.issue(0) == buffers.current() == {}
