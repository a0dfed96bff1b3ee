"""The server against an independent implementation of the equations, in float64, over hundreds of pushes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.contracts.reference import REFERENCES, RHO, Vector
from tests.contracts.test_contracts import METHODS
from unstale.clocks import Gamma
from unstale.methods import get
from unstale.server import Server

SIZE, PUSHES = 40, 400


def rate(push: int) -> float:
    """Warms up, steps down twice, and wobbles."""
    return 0.02 * min(1.0, (push + 1) / 30) * (0.1 if push >= 200 else 1.0) * (1 + 0.3 * math.sin(push))


def gradient(point: Vector, push: int) -> Vector:
    noise = np.random.default_rng([3, push]).normal(size=point.size)
    return np.linspace(0.2, 1.5, point.size) * np.tanh(point - 0.5) + 0.2 * noise


@pytest.mark.parametrize("workers", [1, 2, 7, 32])
@pytest.mark.parametrize("spec", REFERENCES)
def test_server_reproduces_the_equations(spec: str, workers: int) -> None:
    theta = np.random.default_rng(0).normal(size=SIZE)
    server = Server(torch.from_numpy(theta.copy()), get(spec), workers, weight_decay=0.01)
    reference = REFERENCES[spec](theta, workers, 0.01)
    tickets = {worker: server.pull(worker) for worker in range(workers)}
    for worker in range(workers):
        reference.pull(worker)
    order = Gamma(cv=0.5, heterogeneity=0.6).schedule(workers, PUSHES, seed=1).worker
    for push, worker in enumerate(order.tolist()):
        ticket = tickets[worker]
        assert ticket is not None
        point = reference.w[worker]
        np.testing.assert_allclose(ticket.params.numpy(), point, rtol=1e-9, atol=1e-11)
        g = gradient(point, push)
        _, tickets[worker] = server.exchange(ticket, torch.from_numpy(g), lr=rate(push))
        reference.push(worker, g, rate(push))
        reference.pull(worker)
    error = np.linalg.norm(server.params.numpy() - reference.theta) / np.linalg.norm(reference.theta - theta)
    assert error <= 1e-9, error


def test_every_method_that_never_waits_has_a_reference() -> None:
    """Rounds are checked as such below; layer-wise GA with one layer is global GA."""
    rounds = {name for name, _, _ in ROUNDS}
    assert set(METHODS) - set(REFERENCES) == {*rounds, "ga(per=layer)", "ga_adam(per=layer)"}


def nesterov(theta: Vector) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.from_numpy(theta)], lr=0.1, momentum=0.9, nesterov=True)


def adam(theta: Vector) -> torch.optim.Optimizer:
    return torch.optim.Adam([torch.from_numpy(theta)], lr=0.1)


def adamw(theta: Vector) -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.from_numpy(theta)], lr=0.1, weight_decay=0.01)


ROUNDS: list[tuple[str, int, Callable[[Vector], torch.optim.Optimizer]]] = [
    ("sync", 0, nesterov),
    ("backup", 1, nesterov),
    ("sync_adam", 0, adam),
    ("sync_adam(decoupled=True)", 0, adamw),
]


@pytest.mark.parametrize(("name", "spare", "optimizer"), ROUNDS)
def test_rounds_are_torchs_steps_on_the_mean(
    name: str, spare: int, optimizer: Callable[[Vector], torch.optim.Optimizer]
) -> None:
    workers, decay = 4, 0.01
    theta = np.random.default_rng(0).normal(size=SIZE)
    server = Server(torch.from_numpy(theta.copy()), name, workers, weight_decay=decay)
    steps = optimizer(theta)  # moves theta itself
    (group,) = steps.param_groups
    coupled = 0.0 if group["weight_decay"] else decay
    for update in range(100):
        first = update % workers if spare else 0
        order = [(first + k) % workers for k in range(workers)]
        tickets = {worker: server.pull(worker) for worker in order}
        gradients = []
        for k, worker in enumerate(order):
            g = gradient(theta, 10 * update + k)
            ticket = tickets[worker]
            assert ticket is not None
            np.testing.assert_allclose(ticket.params.numpy(), theta, rtol=1e-9)
            receipt = server.push(ticket, torch.from_numpy(g), lr=rate(update))
            late = k >= workers - spare
            assert receipt.outcome == ("dropped" if late else "applied" if k == workers - spare - 1 else "held")
            if not late:
                gradients.append(g + coupled * theta)
        group["params"][0].grad = torch.from_numpy(np.mean(gradients, axis=0))
        group["lr"] = rate(update)
        steps.step()
    np.testing.assert_allclose(server.params.numpy(), theta, rtol=1e-9)


def test_layerwise_penalties_are_norms_of_their_layers() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2)).double()
    theta = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    cuts = np.cumsum([p.numel() for p in model.parameters()])[:-1]
    server = Server(model, "ga(per=layer)", 3)
    tickets = [server.pull(worker) for worker in range(3)]
    sent, pulled = [theta.copy() for _ in range(3)], [0, 0, 0]
    v, squares, peak = np.zeros_like(theta), np.zeros_like(theta), 0.0
    for push in range(100):
        worker, eta = push % 3, rate(push)
        peak = max(peak, eta)
        g = gradient(sent[worker], push)
        ticket = tickets[worker]
        assert ticket is not None
        _, tickets[worker] = server.exchange(ticket, torch.from_numpy(g), lr=eta)
        if push > pulled[worker]:
            step = peak * (np.sqrt(squares / (1 - RHO**push)) + 1e-8)
            layers = zip(*(np.split(a, cuts) for a in (g, theta - sent[worker], step)), strict=True)
            g = np.concatenate([a / (1 + np.linalg.norm(b) / np.linalg.norm(c)) for a, b, c in layers])
        v = 0.9 * v + g
        theta = theta - eta * (g + 0.9 * v)
        squares = RHO * squares + (1 - RHO) * v**2
        sent[worker], pulled[worker] = theta.copy(), push + 1
    np.testing.assert_allclose(server.params.numpy(), theta, rtol=1e-9)
