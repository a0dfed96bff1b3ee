"""Vectors that a step goes through together begin at different places of a page, whatever made them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import unstale
from unstale import methods, placing
from unstale.engines.live.block import Block
from unstale.flat import FlatModule

D = 100_000  # large enough for memory of its own, which begins where a page does
APART = 128  # bytes; two cache lines


def apart(vectors: list[Tensor]) -> bool:
    """Also over the end of a page."""
    offsets = [vector.data_ptr() % placing.PAGE for vector in vectors]
    gaps = [(a - b) % placing.PAGE for a, b in itertools.permutations(offsets, 2)]
    return min(gaps) >= APART


def together(server: unstale.Server, worker: int) -> list[Tensor]:
    """All that a push of this worker touches, its gradient aside."""
    memory = server._memory
    touched = [*memory.arrays(worker).values(), memory.points[worker]]
    return [vector for vector in touched if vector.ndim]


@pytest.mark.parametrize("name", methods.names())
def test_all_that_one_push_touches(name: str) -> None:
    server = unstale.Server(torch.randn(D), name, 2, lr=0.1)
    for worker in (0, 1):
        server.pull(worker)
    server.join(2)
    again = unstale.Server(torch.zeros(D), name, 2, lr=0.1)
    again.load_state_dict(server.state_dict())
    for each, worker in itertools.product((server, again), (0, 1)):
        assert apart(together(each, worker)), (each is again, worker)


def test_the_gradient_of_a_simulation_fits_in_between() -> None:
    module = torch.nn.Linear(D // 100, 100)
    server = unstale.Server(module, "dana_ga", 1, lr=0.1)
    server.pull(0)
    flat = FlatModule(module, server.layout)
    assert apart([*together(server, 0), flat.grad])
    assert not flat.grad.any()


def test_a_workers_shared_memory_fits_in_between() -> None:
    buffers = {"mean": torch.zeros(3), "passes": torch.zeros((), dtype=torch.int64)}
    block = Block(D, torch.float32, buffers)
    server = unstale.Server(torch.randn(D), "dana_ga", 1, lr=0.1)
    server.place_points(lambda worker: block.point)
    ticket = server.pull(0)
    assert ticket is not None
    assert ticket.params.data_ptr() == block.point.data_ptr()
    assert apart([*together(server, 0), block.gradient])
    other = Block(D, torch.float32, buffers, block.descriptor)
    block.gradient.fill_(1.0)
    block.buffers["mean"].fill_(2.0)
    assert torch.equal(other.gradient, torch.ones(D))
    assert torch.equal(other.buffers["mean"], torch.full((3,), 2.0))
    assert torch.equal(other.point, ticket.params)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("place", [0, 7, placing.GRADIENT])
def test_a_vector_begins_at_its_place(place: int, dtype: torch.dtype) -> None:
    for size in (placing.SMALL // dtype.itemsize, D):
        with torch.device("meta"):  # whatever others have for their default
            vector = placing.empty(torch.zeros(size, dtype=dtype, device="cpu"), place)
        assert vector.shape == (size,)
        assert vector.dtype == dtype
        assert vector.data_ptr() % placing.PAGE == place * placing.STEP


def test_a_small_vector_takes_no_more_than_it_needs() -> None:
    vector = placing.empty(torch.zeros(placing.SMALL // 4 - 1), 3)
    assert vector.untyped_storage().nbytes() == vector.nbytes


def test_points_that_are_not_kept_have_their_place_too() -> None:
    server = unstale.Server(torch.randn(D), "dana", 1, lr=0.1, measure=False)
    ticket = server.pull(0)
    assert ticket is not None
    assert apart([*(v for v in server._memory.arrays(0).values() if v.ndim), ticket.params])
