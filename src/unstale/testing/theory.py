"""Known answers: what the theory says that a method does, told from its parts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unstale import methods
from unstale.methods import Here, Method, Open
from unstale.testing.contract import contract
from unstale.testing.drive import Drive, Subject, round_robin, smooth, start, uneven
from unstale.testing.laws import DECAY, LR, close, decaying, every_push_counts

__all__ = ["constant_gradient_limit", "follows"]

PARTS_OF_SGD = (methods.Sgd, methods.HeavyBall, methods.Nesterov, methods.NesterovPerWorker)


def _momentum(method: Method) -> float:
    return float(getattr(method.update, "momentum", 0.0))


def _torch_sgd(params: Tensor, method: Method, lr: float, weight_decay: float) -> torch.optim.SGD:
    """The optimiser that a method with these parts is when there is one worker."""
    nesterov = not isinstance(method.update, methods.Sgd | methods.HeavyBall) and _momentum(method) > 0
    return torch.optim.SGD([params], lr=lr, momentum=_momentum(method), nesterov=nesterov, weight_decay=weight_decay)


def _along_all(method: Method) -> bool:
    """DANA: heavy balls of all workers' own, and gradients taken where they lead."""
    return isinstance(method.update, methods.MomentumPerWorker) and isinstance(method.predict, methods.AlongAllMomenta)


def _predicts(method: Method) -> bool:
    """One momentum per worker, and a point predicted along it: DANA-like with one worker."""
    along = isinstance(method.predict, methods.AlongAllMomenta | methods.AlongOwnMomentum)
    corrected = not isinstance(method.correction, methods.NoCorrection)
    return isinstance(method.update, methods.MomentumPerWorker) and along and not corrected


@contract(lambda method: isinstance(method.update, PARTS_OF_SGD) and isinstance(method.predict, Here))
def one_worker_is_torch_sgd(subject: Subject) -> None:
    """With one worker a method is torch.optim.SGD, also with weight decay and changing η."""
    weights = start().requires_grad_()
    follows(subject, weights, _torch_sgd(weights, subject.method, lr=LR, weight_decay=DECAY))


def follows(subject: Subject, weights: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One worker's server and torch's optimiser of ``weights`` go the same way, with DECAY and a changing η."""
    server = subject.serve(start(), 1, weight_decay=DECAY)
    pushed = 0
    for update in range(30):
        points, rate = [], decaying(update)
        for _ in range(subject.method.gather.target(1)):
            ticket = server.pull(0)
            assert ticket is not None
            points.append(smooth()(ticket.params, pushed))
            server.push(ticket, points[-1], lr=rate)
            pushed += 1
        weights.grad = torch.stack(points).mean(0)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
        assert close(server.params, weights.detach())


@contract(_predicts)
def one_worker_pulls_torch_iterates(subject: Subject) -> None:
    """With one worker, λ = 0 and constant η, the pulled points are the iterates of torch's Nesterov SGD."""
    server = subject.serve(start(), 1)
    weights = start().requires_grad_()
    optimiser = torch.optim.SGD([weights], lr=LR, momentum=_momentum(subject.method), nesterov=True)
    drive = Drive(server, smooth())
    for push in range(30):
        ticket = drive.tickets[0]
        assert ticket is not None
        assert close(ticket.params, weights.detach()), f"push {push}"
        weights.grad = smooth()(weights.detach(), push)
        optimiser.step()
        drive.push(0, LR)


@contract(_along_all)
def prediction_comes_true(subject: Subject) -> None:
    """The predicted point is where θ is after N round-robin pushes of zero gradients."""
    server = subject.serve(start(), 4)
    drive = Drive(server, smooth())
    drive.run(round_robin(4), 12, LR)
    foreseen = server.pull(0)
    assert foreseen is not None
    point = foreseen.params.clone()
    drive.tickets[0] = foreseen
    drive.gradient = lambda at, push: torch.zeros_like(at)
    assert not close(server.params, point)
    drive.run(round_robin(4), 4, LR)
    assert close(server.params, point)


@contract(_along_all)
def prediction_uses_the_rate_of_its_push(subject: Subject) -> None:
    """The step and the predicted point of one push share its η: w = θ − ηγS."""
    server = subject.serve(start(), 3)
    drive = Drive(server, smooth())
    for worker, push in zip(uneven(3), range(12), strict=False):
        rate = LR / (1 + push % 4)
        drive.push(worker, rate)
        ticket = drive.tickets[worker]
        assert ticket is not None
        assert close(ticket.params, server.params - rate * _momentum(subject.method) * server.state("S"))


def constant_gradient_limit(method: Method, workers: int) -> float | None:
    """Where the gap penalty tends under a constant gradient, round-robin, at constant η; None if theory is silent."""
    if not every_push_counts(method) or not isinstance(method.gate, Open):
        return None
    if not isinstance(method.step_size, methods.Scheduled) or not isinstance(method.correction, methods.NoCorrection):
        return None
    shared = isinstance(method.update, methods.Sgd | methods.HeavyBall | methods.Nesterov | methods.Adam)
    if isinstance(method.penalty, methods.Gap | methods.NormGap) and shared and isinstance(method.predict, Here):
        return float(workers)
    if _along_all(method):
        if method.penalty == methods.Gap("prediction"):
            return float(workers)
        if isinstance(method.penalty, methods.Gap | methods.NormGap):
            gamma = _momentum(method)
            return 1 + abs((workers - 1) * (1 - gamma) - gamma)
    return None


def _settled(subject: Subject, workers: int, rate: float, pushes: int) -> Drive:
    server = subject.serve(torch.zeros(3, dtype=torch.float64), workers)
    drive = Drive(server, lambda point, push: torch.tensor([1.0, -0.1, 10.0], dtype=torch.float64))
    drive.run(round_robin(workers), pushes, rate, look=False)
    return drive


@contract(lambda method: constant_gradient_limit(method, 4) is not None)
def constant_gradients_are_divided_by_their_gap(subject: Subject) -> None:
    """Constant gradient, round-robin: P → N for shared momenta, 1 + |(N−1)(1−γ) − γ| along predicted points."""
    drive = _settled(subject, 4, LR, 2000)
    limit = constant_gradient_limit(subject.method, 4)
    assert limit is not None
    for _ in range(4):
        arrival = drive.push(drive.pushes % 4, LR)
        assert arrival is not None
        assert arrival.receipt.penalty is not None
        assert math.isclose(arrival.receipt.penalty, limit, rel_tol=0.02), (arrival.receipt.penalty, limit)
        assert math.isclose(
            arrival.receipt.normalised_gap or 0.0, limit - 1, rel_tol=0.05
        ) or subject.method.penalty == methods.Gap("prediction")


@contract(
    lambda method: (
        constant_gradient_limit(method, 4) is not None
        and isinstance(method.scale, methods.AverageStep)
        and method.penalty != methods.Gap("prediction")
    )
)
def penalties_fall_with_the_rate(subject: Subject) -> None:
    """After η falls by k the gap does, but C keeps η_max: P → 1 + (P − 1)/k."""
    drive = _settled(subject, 4, LR, 2000)
    drive.run(round_robin(4), 3000, LR / 10, look=False)
    arrival = drive.push(drive.pushes % 4, LR / 10)
    limit = constant_gradient_limit(subject.method, 4)
    assert arrival is not None
    assert limit is not None
    assert math.isclose(arrival.receipt.penalty or 0.0, 1 + (limit - 1) / 10, rel_tol=0.02), arrival.receipt.penalty


@contract(lambda method: isinstance(method.penalty, methods.Gap | methods.NormGap) and every_push_counts(method))
def early_averages_are_not_biased(subject: Subject) -> None:
    """C is the root mean square of the steps so far from the first one on: R (Adam: Q) is divided by 1 − ρⁿ."""
    server = subject.serve(torch.zeros(2, dtype=torch.float64), 2)
    drive = Drive(server, lambda point, push: torch.ones_like(point))
    first = drive.push(0, LR)
    second = drive.push(1, LR)
    assert first is not None
    assert second is not None
    # One update was made, with v = 1, so C = η; the gap is how far that update moved θ from what was sent.
    assert math.isclose(second.receipt.normalised_gap or 0.0, float(first.after[0].abs()) / LR, rel_tol=1e-6)
