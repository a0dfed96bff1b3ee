"""Exactly once, no deadlock, drains at the end: under random deaths, lateness, duplicates, drops and gates."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstale import methods
from unstale.errors import ArgumentError
from unstale.measure import Receipt
from unstale.methods import Method
from unstale.server import Server
from unstale.tickets import Ticket

METHODS: dict[str, Method] = {
    "open": methods.asgd(),
    "own momenta": methods.dana_ga(),
    "barrier": methods.sync(),
    "backup": methods.backup(spare=1),
    "buffer": methods.fedbuff(buffer=3),
    "drops": Method(admission=methods.MaxDelay(1)),
    "restarts": Method(admission=methods.MaxDelay(1, restart=True)),
    "impossible target": methods.sync().replace(gather=methods.Mean(50)),
}
ACTIONS = ("push", "push", "push", "poison", "kill", "expire", "duplicate", "pull again", "join")


class Cluster:
    """Workers around a server, and a log of what became of every batch that shares no code with the ledger."""

    def __init__(self, method: Method, workers: int, batches: int) -> None:
        self.server = Server(torch.ones(3), method, workers, batches=batches, lr=0.01)
        self.tickets: dict[int, Ticket | None] = {worker: self.server.pull(worker) for worker in range(workers)}
        self.lost: list[Ticket] = []
        self.accepted: Counter[int] = Counter()
        self.failed: Counter[int] = Counter()
        self.spent: Ticket | None = None

    def wake(self, released: tuple[int, ...]) -> None:
        for worker in released:
            self.tickets[worker] = self.server.pull(worker)

    def push(self, worker: int, value: float = 1.0) -> Receipt | None:
        ticket = self.tickets[worker]
        if ticket is None:
            return None
        receipt, self.tickets[worker] = self.server.exchange(ticket, torch.full((3,), value))
        self.accepted[ticket.batch] += receipt.outcome in ("applied", "held")
        self.failed[ticket.batch] += receipt.outcome == "rejected"
        self.spent = ticket
        self.wake((*receipt.cancelled, *receipt.released))
        return receipt

    def nothing_changes(self, ticket: Ticket, outcome: str) -> None:
        before = self.server.state_dict()["desk"], self.server.params
        receipt = self.server.push(ticket, torch.ones(3))
        assert receipt.outcome == outcome
        assert receipt.reason
        assert (self.server.state_dict()["desk"], self.server.params.tolist()) == (before[0], before[1].tolist())

    def do(self, action: str, worker: int) -> None:
        if action == "join":
            joined = self.server.join()
            self.tickets[joined] = self.server.pull(joined)
            return
        ticket = self.tickets.get(worker)
        if worker not in self.tickets:
            return
        if action in ("push", "poison"):
            self.push(worker, float("nan") if action == "poison" else 1.0)
        elif action == "kill" and len(self.tickets) > 1:
            if ticket is not None:
                self.failed[ticket.batch] += 1
                self.lost.append(ticket)
            del self.tickets[worker]
            self.wake(self.server.depart(worker, failed=True))
        elif action == "expire" and ticket is not None:
            self.lost.append(ticket)
            self.tickets[worker] = None
            self.wake(self.server.expire(ticket))
            self.nothing_changes(ticket, "late")
        elif action == "duplicate" and self.spent is not None:
            self.nothing_changes(self.spent, "spent")
        elif action == "pull again" and ticket is not None:
            self.tickets[worker] = self.server.pull(worker)
            self.nothing_changes(ticket, "late")

    def drain(self, limit: int) -> None:
        for _ in range(limit):
            if self.server.finished:
                return
            moved = False
            for worker in list(self.tickets):
                if self.tickets[worker] is None:
                    self.tickets[worker] = self.server.pull(worker)
                moved |= self.push(worker) is not None
            assert moved or self.server.finished, "deadlock"
        raise AssertionError("does not drain")


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(METHODS)),
    workers=st.integers(1, 5),
    batches=st.integers(1, 25),
    actions=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 6)), max_size=80),
)
def test_every_batch_is_accepted_once_or_named(
    name: str, workers: int, batches: int, actions: list[tuple[str, int]]
) -> None:
    cluster = Cluster(METHODS[name], workers, batches)
    for action, worker in actions:
        cluster.do(action, worker)
    cluster.drain(limit=20 * batches + 50)
    server = cluster.server
    assert all(count == 1 for count in cluster.accepted.values() if count)
    accepted = {batch for batch, count in cluster.accepted.items() if count}
    assert accepted | set(server.quarantined) == set(range(batches))
    assert not accepted & set(server.quarantined)
    assert set(server.quarantined) == {batch for batch, count in cluster.failed.items() if count >= 3}
    assert server.progress == len(accepted)
    assert bool(server.params.isfinite().all())
    for worker in server.workers:
        assert server.pull(worker) is None, "a batch was handed out after the last"
    for ticket in cluster.lost:
        cluster.nothing_changes(ticket, "late")


def poisoned() -> tuple[Server, list[Receipt]]:
    server = Server(torch.ones(2), "asgd", 1, batches=3, lr=0.1)
    receipts = []
    while (ticket := server.pull(0)) is not None:
        receipts.append(server.push(ticket, torch.full((2,), float("nan" if ticket.batch == 1 else "1"))))
    return server, receipts


def test_a_batch_is_quarantined_after_three_failures() -> None:
    server, receipts = poisoned()
    assert [r.outcome for r in receipts] == ["applied", "rejected", "rejected", "rejected", "applied"]
    assert server.quarantined == (1,)
    assert server.finished
    assert server.params.tolist() == pytest.approx([0.8, 0.8])


def test_returned_batches_go_first() -> None:
    server = Server(torch.ones(2), "asgd", 2, lr=0.1)
    first, second = server.pull(0), server.pull(1)
    assert (first and first.batch, second and second.batch) == (0, 1)
    server.depart(0)
    again = server.pull(1)
    assert again is not None
    assert again.batch == 0, "the lower of the two that came back"


def test_tickets_of_another_server_are_refused() -> None:
    one, other = (Server(torch.ones(2), "asgd", 1, lr=0.1) for _ in range(2))
    ticket = other.pull(0)
    assert ticket is not None
    receipt = one.push(ticket, torch.ones(2))
    assert receipt.outcome == "spent"
    assert "not issued by this server" in receipt.reason
    assert one.version == 0


def test_numbers_are_not_reused_after_a_restart() -> None:
    server = Server(torch.ones(2), "asgd", 1, lr=0.1)
    saved = server.state_dict()
    lost = server.pull(0)
    again = Server(torch.ones(2), "asgd", 1, lr=0.1)
    again.load_state_dict(saved)
    new = again.pull(0)
    assert lost is not None
    assert new is not None
    assert new.number == lost.number
    assert new.key != lost.key
    assert again.push(lost, torch.ones(2)).outcome == "spent"
    assert again.push(new, torch.ones(2)).outcome == "applied"


def test_cancelled_workers_are_named_and_start_afresh() -> None:
    server = Server(torch.ones(2), Method(admission=methods.MaxDelay(1, restart=True)), 2, lr=0.1)
    slow, fast = server.pull(0), server.pull(1)
    assert slow is not None
    for _ in range(2):
        assert fast is not None
        receipt, fast = server.exchange(fast, torch.ones(2))
    assert receipt.cancelled == (0,)
    assert server.push(slow, torch.ones(2)).outcome == "late"
    fresh = server.pull(0)
    assert fresh is not None
    assert (fresh.batch, fresh.version) == (slow.batch, 2) or fresh.version == 2


@pytest.mark.parametrize("value", [None, "ticket", 3])
def test_something_that_is_no_ticket_is_refused(value: Any) -> None:
    with pytest.raises(ArgumentError, match="ticket must be a Ticket"):
        Server(torch.ones(2), "asgd", 1, lr=0.1).push(value, torch.ones(2))
