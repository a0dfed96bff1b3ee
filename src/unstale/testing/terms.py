"""What each term against staleness does to one gradient."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from unstale import methods
from unstale.methods import Method
from unstale.testing.contract import contract
from unstale.testing.drive import Drive, Subject, round_robin, smooth, start, uneven
from unstale.testing.laws import LR, close, every_push_counts

__all__: list[str] = []


@contract(lambda method: isinstance(method.penalty, methods.Delay) and every_push_counts(method))
def delays_divide(subject: Subject) -> None:
    """P = max(1, τ), or τ + 1."""
    drive = Drive(subject.serve(start(), 4), smooth())
    more = isinstance(subject.method.penalty, methods.Delay) and subject.method.penalty.plus_one
    for arrival in drive.run(uneven(4), 40, LR):
        delay = arrival.receipt.delay or 0
        assert arrival.receipt.penalty == (1 if delay == 0 else delay + 1 if more else max(1, delay))


def _shortens(method: Method) -> bool:
    """Whether a divided gradient makes a step that is divided as much: Adam's steps are of one size all the same."""
    penalised = not isinstance(method.penalty, methods.NoPenalty)
    return penalised and every_push_counts(method) and not isinstance(method.update, methods.Adam)


@contract(_shortens)
def penalties_shrink_gradients(subject: Subject) -> None:
    """What the receipt calls the penalty divides the gradient: the first stale step is that much shorter."""
    bare = dataclasses.replace(subject, method=subject.method.replace(penalty=methods.NoPenalty()))
    steps, penalties = [], []
    for each in (subject, bare):
        server = each.serve(torch.zeros(4, dtype=torch.float64), 3)
        drive = Drive(
            server, lambda point, push: torch.ones_like(point) if push == 2 else 1e-3 * torch.ones_like(point)
        )
        arrivals = drive.run(round_robin(3), 3, LR)
        # Nearly all of the third step is the third gradient; its penalty is the same in every element.
        steps.append(float((arrivals[2].after - arrivals[2].before).norm()))
        penalties.append(arrivals[2].receipt.penalty or 0.0)
    assert penalties[0] > 1
    assert math.isclose(steps[1] / steps[0], penalties[0], rel_tol=0.02), (steps, penalties)


@contract(lambda method: isinstance(method.correction, methods.DelayCompensation))
def compensation_is_first_order(subject: Subject) -> None:
    """DC-ASGD-c and DANA-DC add c·g²·(θ − w_i) to the gradient."""
    c = subject.method.correction.c  # type: ignore[attr-defined]
    _check_correction(subject, lambda g, drift: g + c * g * g * drift)


@contract(lambda method: isinstance(method.correction, methods.AdaptiveDelayCompensation))
def adaptive_compensation_is_first_order(subject: Subject) -> None:
    """DC-ASGD-a adds c/√(MS_i + ε)·g²·(θ − w_i), with MS_i ← m·MS_i + (1 − m)g² before use."""
    part = subject.method.correction
    assert isinstance(part, methods.AdaptiveDelayCompensation)
    weight = part.c / math.sqrt((1 - part.m) * 4.0 + part.eps)
    _check_correction(subject, lambda g, drift: g + weight * g * g * drift)


def _check_correction(subject: Subject, corrected: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The second worker's first push, g = 2 at τ = 1, must move θ like the corrected gradient on a plain server."""
    plain = dataclasses.replace(subject, method=subject.method.replace(correction=methods.NoCorrection()))
    ends = []
    for each, fix in ((subject, None), (plain, corrected)):
        server = each.serve(start(), 2)
        first, second = server.pull(0), server.pull(1)
        assert first is not None
        assert second is not None
        server.push(first, torch.ones(6, dtype=torch.float64), lr=LR)
        g = torch.full((6,), 2.0, dtype=torch.float64)
        drift = server.params - second.params
        server.push(second, g if fix is None else fix(g, drift), lr=LR)
        ends.append(server.params)
    assert close(ends[0], ends[1])


@contract(lambda method: isinstance(method.step_size, methods.DelayAdaptive))
def steps_adapt_beyond_the_workers(subject: Subject) -> None:
    """η is multiplied by min(1, N/τ), so it shrinks only where τ > N."""
    server = subject.serve(torch.zeros(2, dtype=torch.float64), 2)
    drive = Drive(server, lambda point, push: torch.ones_like(point))
    for worker in [0, 1, *[0] * 7, 1]:
        arrival = drive.push(worker, LR)
        assert arrival is not None
        expected = LR * min(1.0, 2 / max(1, arrival.receipt.delay or 0))
        assert math.isclose(float((arrival.before - arrival.after)[0]), expected, rel_tol=1e-9)


@contract(lambda method: isinstance(method.update, methods.MomentumPerWorker | methods.NesterovPerWorker))
def momenta_are_their_workers_own(subject: Subject) -> None:
    """A push changes the momentum of its own worker, and no other."""
    server = subject.serve(start(), 3)
    drive = Drive(server, smooth())
    drive.run(round_robin(3), 6, LR)
    before = {worker: server.state("v", worker) for worker in server.workers}
    drive.push(1, LR)
    for worker in server.workers:
        assert torch.equal(before[worker], server.state("v", worker)) == (worker != 1)
