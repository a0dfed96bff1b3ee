"""Receipts and statistics, computed once more from what can be read off the server before each push."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unstale import methods
from unstale.flat import Group
from unstale.methods import Method
from unstale.server import Server
from unstale.testing.contract import contract
from unstale.testing.drive import Drive, Subject, smooth, start, uneven
from unstale.testing.laws import LR, close

__all__: list[str] = []

UPDATES = (
    methods.Sgd,
    methods.HeavyBall,
    methods.Nesterov,
    methods.MomentumPerWorker,
    methods.NesterovPerWorker,
    methods.Adam,
)
LAYERS = (slice(0, 2), slice(2, 6))
PENALTIES = (methods.Gap, methods.NormGap, methods.Delay, methods.RootDelay)
KNOWN_SCALES = (methods.AverageStep, methods.AppliedStep)


def _rate(push: int) -> float:
    """Rises for a while, so that η_max is the η of the very push; then wobbles below."""
    return LR * (min(push + 1, 12) / 12 if push < 20 else 0.3 + 0.1 * (push % 3))


def _known(method: Method) -> bool:
    """Whether C is one of those that are here."""
    return isinstance(method.scale, KNOWN_SCALES)


def _mean_square(method: Method) -> tuple[str, float, float]:
    """What C is made of: the name of its running mean of squares, that mean's memory, and ε."""
    if isinstance(method.scale, methods.AppliedStep):
        return "Q", method.scale.beta, method.scale.eps
    assert isinstance(method.scale, methods.AverageStep)
    return "R", method.scale.rho, method.scale.eps


def _step(method: Method, peak: float, average: Tensor, updates: int) -> Tensor:
    """(d,) C."""
    _, memory, eps = _mean_square(method)
    root = (average / (1 - memory**updates)).sqrt() + eps
    return root if isinstance(method.scale, methods.AppliedStep) else peak * root


@contract(lambda method: isinstance(method.penalty, PENALTIES) and _known(method))
def penalties_are_exact(subject: Subject) -> None:
    """The penalty is the published function of τ, or of the gap and C, for every push with τ > 0."""
    server = subject.serve(start(), 4, groups=[Group(layer) for layer in LAYERS])
    drive = Drive(server, smooth())
    peak = last = 0.0
    checked = 0
    for worker, push in zip(uneven(4), range(60), strict=False):
        ticket, rate = drive.tickets[worker], _rate(push)
        if ticket is None:
            continue
        theta, average = server.params, server.state(_mean_square(subject.method)[0])
        prediction = theta - last * _momentum_along(subject.method, server)
        updates = server.version
        arrival = drive.push(worker, rate)
        assert arrival is not None
        if arrival.receipt.outcome in ("applied", "held"):
            peak, last = max(peak, rate), rate
        if arrival.receipt.delay and arrival.receipt.penalty is not None:
            drift = (theta - arrival.sent, prediction - arrival.sent)
            expected = _penalty(subject.method, arrival.receipt.delay, drift, peak, average, updates)
            assert math.isclose(arrival.receipt.penalty, expected, rel_tol=1e-9), (push, arrival.receipt, expected)
            checked += 1
    assert checked or not subject.method.admission.admit(1)


def _momentum_along(method: Method, server: Server) -> Tensor:
    """γS, or nothing to look along."""
    if not isinstance(method.predict, methods.AlongAllMomenta):
        return torch.zeros(6, dtype=torch.float64)
    return float(method.gives["momentum"]) * server.state("S")


def _penalty(
    method: Method, delay: int, drifts: tuple[Tensor, Tensor], peak: float, average: Tensor, updates: int
) -> float:
    part = method.penalty
    if isinstance(part, methods.Delay):
        return float(delay + 1 if part.plus_one else max(1, delay))
    if isinstance(part, methods.RootDelay):
        return float((1 + delay) ** part.power)
    step = _step(method, peak, average, updates)
    if isinstance(part, methods.NormGap):
        layers = LAYERS if part.per == "layer" else (slice(0, 6),)
        total = sum((1 + float(drifts[0][at].norm() / step[at].norm())) * len(step[at]) for at in layers)
        return total / 6
    drift = drifts[getattr(part, "reference", "server") == "prediction"]
    return float((1 + drift.abs() / step).mean())


@contract(lambda method: _known(method) and isinstance(method.update, UPDATES))
def averages_follow_what_is_applied(subject: Subject) -> None:
    """R ← ρR + (1 − ρ)v² with the v just applied (Adam: Q, with the change of θ); also when a gather is flushed."""
    server, name = subject.serve(start(), 3), _mean_square(subject.method)[0]
    drive = Drive(server, smooth())
    for worker, push in zip(uneven(3), range(30), strict=False):
        before = server.params, server.state(name), server.version
        arrival = drive.push(worker, _rate(push))
        _check_average(subject, server, before, worker, 0.0 if arrival is None else _rate(push))
    if not subject.method.gather.every_push:
        _check_flush(subject)


def _check_flush(subject: Subject) -> None:
    """Gradients are held when the last batch is given up: what was held makes an update then, without a new one."""
    target = subject.method.gather.target(2)
    server = subject.serve(start(), 2, batches=max(target, 2))
    drive = Drive(server, smooth())
    drive.run([0] * (target - 1), target - 1, LR)
    ticket = drive.tickets[1]
    before = server.params, server.state(_mean_square(subject.method)[0]), server.version
    for _ in range(3):
        if ticket is not None and server.version == before[2]:
            server.push(ticket, torch.full_like(ticket.params, torch.nan), lr=LR)
            ticket = server.pull(1)
    if target > 1:
        assert server.version == before[2] + 1, "what was held was lost"
    _check_average(subject, server, before, 0, LR)


def _check_average(
    subject: Subject, server: Server, before: tuple[Tensor, Tensor, int], worker: int, rate: float
) -> None:
    theta, average, version = before
    name, memory, _ = _mean_square(subject.method)
    if server.version == version:
        assert torch.equal(server.state(name), average)
        return
    if isinstance(subject.method.scale, methods.AppliedStep):
        view = server.params - theta
    elif isinstance(subject.method.update, methods.Adam):
        return  # its direction cannot be read off the server
    elif isinstance(subject.method.update, methods.Sgd):
        view = (theta - server.params) / rate
        if not isinstance(subject.method.step_size, methods.Scheduled):
            return
    else:
        own = subject.method.states["v"].kind == "per_worker"
        view = server.state("v", worker if own else None)
    assert close(server.state(name), memory * average + (1 - memory) * view * view, 1e-7)


@contract(lambda method: isinstance(method.admission, methods.MaxDelay))
def limits_are_kept(subject: Subject) -> None:
    """A push is dropped if its delay exceeds the limit, and used if not."""
    admission = subject.method.admission
    assert isinstance(admission, methods.MaxDelay)
    server = subject.serve(start(), 4)
    drive = Drive(server, smooth())
    for arrival in drive.run(uneven(4), 60, LR):
        used = arrival.receipt.outcome in ("applied", "held")
        assert used == ((arrival.receipt.delay or 0) <= admission.limit), arrival.receipt


@contract(lambda method: isinstance(method.predict, methods.AlongOwnMomentum) and "v" in method.states)
def own_momentum_leads(subject: Subject) -> None:
    """The predicted point is θ − ηγv_i, along the worker's own momentum only."""
    server = subject.serve(start(), 3)
    drive = Drive(server, smooth())
    momentum = float(subject.method.gives["momentum"])
    own = subject.method.states["v"].kind == "per_worker"
    for worker, push in zip(uneven(3), range(20), strict=False):
        drive.push(worker, _rate(push))
        ticket = drive.tickets[worker]
        assert ticket is not None
        velocity = server.state("v", worker if own else None)
        assert close(ticket.params, server.params - _rate(push) * momentum * velocity)


@contract(lambda method: isinstance(method.correction, methods.AdaptiveDelayCompensation))
def mean_squares_follow_every_gradient(subject: Subject) -> None:
    """MS_i ← m·MS_i + (1 − m)g² with the raw g of every push of worker i, fresh ones too."""
    correction = subject.method.correction
    assert isinstance(correction, methods.AdaptiveDelayCompensation)
    m = correction.m
    server = subject.serve(start(), 3, weight_decay=0.1)
    drive = Drive(server, smooth())
    for worker, push in zip([0, 0, *range(3), 1, 1, 2, 0], range(9), strict=True):
        before = server.state("MS", worker)
        arrival = drive.push(worker, LR)
        assert arrival is not None
        gradient = smooth()(arrival.sent, push)
        assert close(server.state("MS", worker), m * before + (1 - m) * gradient * gradient)
