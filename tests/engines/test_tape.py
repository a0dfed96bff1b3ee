"""A list of operations gives what the function gives, for any inputs, or there is no list."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from unstale.engines.gradients import captured
from unstale.engines.gradients.tape import TAPES, Taped


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Counted:
    """A function that knows how often it ran."""

    def __init__(self, function: Callable[..., list[Tensor]]) -> None:
        self.function, self.runs = function, 0

    def __call__(self, *values: Tensor) -> list[Tensor]:
        self.runs += 1
        return self.function(*values)


def differentiated(x: Tensor, w: Tensor) -> list[Tensor]:
    """Loss over lanes, and the gradients of w (L, 3, 4) and of a bias that is used twice."""
    with torch.enable_grad():
        w, b = w.detach().requires_grad_(), torch.zeros(len(w), 3).requires_grad_()

        def lane(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            return (torch.tanh(x @ w.T + b) + b).square().mean()

        losses = vmap(lane)(x, w, b)
        return [losses.detach(), *torch.autograd.grad(losses.sum(), (w, b))]


def again(run: Callable[[], None]) -> Callable[[], None]:
    run()
    return run


@pytest.mark.parametrize("capture", [None, again])
def test_it_runs_once_and_then_repeats_itself_on_other_inputs(capture: captured.Capture | None) -> None:
    function = Counted(differentiated)
    taped = Taped(function, capture)
    for seed in range(3):
        x, w = numbers(2, 5, 4, seed=seed), numbers(2, 3, 4, seed=9 + seed)
        places = [torch.full((2, 3, 4), torch.nan), torch.full((2, 3), torch.nan)]
        (losses,) = taped(x, w, places=places)
        wanted = differentiated(x, w)
        assert torch.equal(losses, wanted[0])
        assert all(map(torch.equal, places, wanted[1:]))
    assert function.runs == 1


@pytest.mark.parametrize("capture", [None, again])
def test_what_it_changes_in_place_is_changed_for_the_caller(capture: captured.Capture | None) -> None:
    norm = nn.BatchNorm1d(4)

    def function(x: Tensor, buffers: dict[str, Tensor]) -> list[Tensor]:
        return [functional_call(norm, dict(buffers), (x,)).detach()]

    taped = Taped(function, capture, changes=(1,))
    for seed in range(3):
        x = numbers(6, 4, seed=seed)
        mine, theirs = ({name: value.clone() for name, value in norm.named_buffers()} for _ in range(2))
        (out,) = taped(x, mine, places=[])
        assert torch.equal(out, function(x, theirs)[0])
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert mine["running_mean"].abs().sum() > 0


@pytest.mark.parametrize("capture", [None, again])
def test_what_first_changes_later_is_changed_too(capture: captured.Capture | None) -> None:
    def function(x: Tensor, peak: Tensor) -> list[Tensor]:
        peak.copy_(torch.maximum(peak, x.max()))
        return [x + 1]

    taped = Taped(function, capture, changes=(1,))
    peak = torch.tensor(3.0)
    for top, wanted in ((1.0, 3.0), (5.0, 5.0), (7.0, 7.0)):
        taped(torch.full((4,), top), peak, places=[])
        assert float(peak) == wanted


def test_statistics_of_a_layer_that_nobody_reads_are_taken_all_the_same() -> None:
    norm = nn.BatchNorm1d(4)

    def function(x: Tensor, buffers: dict[str, Tensor]) -> list[Tensor]:
        functional_call(norm, dict(buffers), (x,))
        return [x * 2]

    taped = Taped(function, changes=(1,))
    for seed in range(3):
        mine, theirs = ({name: value.clone() for name, value in norm.named_buffers()} for _ in range(2))
        taped(numbers(6, 4, seed=seed), mine, places=[])
        function(numbers(6, 4, seed=seed), theirs)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_views_that_conjugate_or_negate_are_not_what_they_look_at() -> None:
    def function(x: Tensor) -> list[Tensor]:
        z = torch.view_as_complex(x)
        return [(z.conj() * z.conj()).real + 0.0, z.conj().imag + 0.0]

    taped = Taped(function)
    for seed in range(3):
        x = numbers(5, 2, seed=seed)
        assert all(map(torch.equal, taped(x, places=[]), function(x)))


def test_a_result_that_is_wanted_in_two_places_gets_there_twice() -> None:
    def function(x: Tensor) -> list[Tensor]:
        total = x.sum([0])
        return [total * 2, total, total]

    taped = Taped(function)
    for seed in range(2):
        x, places = numbers(3, 4, seed=seed), [torch.zeros(4), torch.zeros(4)]
        (twice,) = taped(x, places=places)
        assert torch.equal(twice, 2 * x.sum(0))
        assert all(torch.equal(place, x.sum(0)) for place in places)


def test_tensors_from_outside_are_looked_at_each_time() -> None:
    outside = torch.ones(3)
    taped = Taped(lambda x: [x * outside])
    taped(numbers(3), places=[])
    outside.fill_(5)
    assert torch.equal(taped(numbers(3, seed=1), places=[])[0], 5 * numbers(3, seed=1))


@pytest.mark.parametrize(
    "function",
    [lambda x: [x * float(x.sum())], lambda x: [x[x > 0].sum() + x], lambda x: [x if bool(x.sum() > 0) else -x]],
    ids=["a number read off", "a length that depends on values", "a branch"],
)
def test_what_depends_on_values_otherwise_runs_each_time(function: Callable[[Tensor], list[Tensor]]) -> None:
    taped = Taped(function)
    for seed in range(4):
        x = numbers(5, seed=seed)
        assert torch.equal(taped(x, places=[])[0], function(x)[0])


def test_inputs_that_share_memory_are_not_written_down() -> None:
    function = Counted(lambda x, y: [x + 2 * y])
    taped, x = Taped(function), numbers(3)
    taped(x, x, places=[])
    assert torch.equal(taped(x, numbers(3, seed=1), places=[])[0], x + 2 * numbers(3, seed=1))
    assert function.runs == 2


def test_other_shapes_are_other_lists_and_not_without_end() -> None:
    function = Counted(lambda x: [x.exp()])
    taped = Taped(function)
    for _ in range(2):
        for size in range(1, TAPES + 3):
            assert torch.equal(taped(numbers(size), places=[])[0], numbers(size).exp())
    assert function.runs == TAPES + 2 + 2
