"""A server that is split keeps the bits of one that is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from unstale import Server, methods
from unstale.errors import ArgumentError
from unstale.flat import Group
from unstale.shard import Shard
from unstale.sharded import ShardedServer, Staged, borders
from unstale.tickets import Ticket

D = 5000


class Here:
    """Shards in this process."""

    def __init__(self, arguments: Sequence[tuple[Any, ...]]) -> None:
        self.shards = [Shard(*each) for each in arguments]

    def ask(self, name: str, arguments: Sequence[Sequence[Any]]) -> list[Any]:
        return [getattr(shard, name)(*each) for shard, each in zip(self.shards, arguments, strict=True)]

    def step(self, name: str, *arguments: Any) -> list[tuple[dict[str, float], Any]]:
        return [getattr(shard, name)(*arguments) for shard in self.shards]


class Split(ShardedServer):
    """Takes and hands out whole vectors, as a `Server` does."""

    def __init__(self, *given: Any, shards: int, **named: Any) -> None:
        super().__init__(*given, shards=shards, make=self._here, **named)

    def _here(self, arguments: list[tuple[Any, ...]]) -> Here:
        self.here = Here(arguments)
        return self.here

    def point(self, ticket: Ticket) -> Tensor:
        return torch.cat(self.handles(ticket.worker))

    def stage(self, ticket: Ticket, gradient: Tensor) -> Staged:
        parts = [gradient[start:stop].clone() for start, stop in borders(gradient.numel(), len(self.here.shards))]
        finite = [s.stage(ticket.worker, ticket.number, p) for s, p in zip(self.here.shards, parts, strict=True)]
        return Staged(ticket.number, all(finite))


def both(method: str, shards: int, **settings: Any) -> tuple[Server, Split]:
    start = torch.randn(D, generator=torch.Generator().manual_seed(0))
    named: dict[str, Any] = {"workers": 3, "lr": 0.1, "executor": "blocks", "weight_decay": 1e-3, **settings}
    named["groups"] = [Group(slice(100, 2100), lr_scale=0.5, weight_decay=0.0)]
    return Server(start, method, **named), Split(start, method, shards=shards, **named)


def drive(one: Server, split: Split, pushes: int, seed: int = 1) -> None:
    """The same calls of both, with workers in random order, and what they answer compared."""
    random = torch.Generator().manual_seed(seed)
    out: dict[int, tuple[Ticket, Ticket]] = {}

    def pull(workers: Sequence[int]) -> None:
        for worker in workers:
            pair = one.pull(worker), split.pull(worker)
            assert (pair[0] is None) == (pair[1] is None)
            if pair[0] is not None and pair[1] is not None:
                out[worker] = pair[0], pair[1]

    pull(one.workers)
    for _ in range(pushes):
        worker = list(out)[int(torch.randint(len(out), (), generator=random))]
        whole, parts = out.pop(worker)
        assert torch.equal(whole.params, split.point(parts))
        gradient = 0.1 * whole.params + 0.1 * torch.randn(D, generator=random)
        told, answer = one.exchange(whole, gradient)
        same, reply = split.exchange(parts, split.stage(parts, gradient))  # type: ignore[arg-type]
        assert (told.outcome, told.delay, told.released) == (same.outcome, same.delay, same.released)
        if told.outcome in ("applied", "held"):
            assert told.gap == pytest.approx(same.gap, rel=1e-6)
            assert told.penalty == pytest.approx(same.penalty, rel=1e-6)
        if answer is not None and reply is not None:
            out[worker] = answer, reply
        pull([worker for worker in told.released if worker not in out])
        if told.outcome in ("late", "spent"):
            pull([worker])


SPLITTABLE = [name for name in methods.names() if methods.get(name).penalty.over == "element"]


@pytest.mark.parametrize("name", SPLITTABLE)
@pytest.mark.parametrize("shards", [3])
def test_every_bit_is_that_of_one_server(name: str, shards: int) -> None:
    one, split = both(name, shards)
    drive(one, split, 25)
    assert torch.equal(one.params, split.params)
    for state in one._memory.shared:
        assert torch.equal(one.state(state), split.state(state))


@pytest.mark.parametrize("name", ["dana_ga", "ga_adam"])
def test_workers_come_and_go(name: str) -> None:
    one, split = both(name, 2)
    drive(one, split, 10)
    for server in (one, split):
        server.depart(1)
        assert server.join() == 1
    one.params, split.params = one.params + 1, split.params + 1
    drive(one, split, 10)
    assert torch.equal(one.params, split.params)


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_a_state_fits_however_a_server_is_split(shards: int) -> None:
    one, split = both("dana_ga", 2)
    drive(one, split, 10)
    again, other = both("dana_ga", shards)
    again.load_state_dict(split.state_dict())
    other.load_state_dict(one.state_dict())
    drive(again, other, 10)
    assert torch.equal(again.params, other.params)


def test_a_gradient_is_finite_everywhere_or_committed_nowhere() -> None:
    _, split = both("dana_ga", 2)
    ticket, before = split.pull(0), split.params
    assert ticket is not None
    bad = torch.zeros(D)
    bad[-1] = torch.inf
    receipt = split.push(ticket, split.stage(ticket, bad))  # type: ignore[arg-type]
    assert (receipt.outcome, receipt.finite) == ("rejected", False)
    assert torch.equal(split.params, before)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(ArgumentError, match="servers must be 1 for method 'ga', whose penalty takes norms"):
        both("ga(per=layer)", 2)
    with pytest.raises(ArgumentError, match="servers must be at most the 5000 parameters"):
        both("asgd", D + 1)


@pytest.mark.parametrize(("size", "shards"), [(15, 2), (5000, 3), (10**6, 7), (3, 3)])
def test_slices_cover_everything_once(size: int, shards: int) -> None:
    slices = borders(size, shards)
    assert [n for start, stop in slices for n in (start, stop)][1:-1:2] == [start for start, _ in slices[1:]]
    assert (slices[0][0], slices[-1][1]) == (0, size)
    assert all(stop > start for start, stop in slices)
