"""Laws of Adam at the server: what enters its moments, what its gaps are measured in."""

from __future__ import annotations

import dataclasses
import math

import torch

from unstale import methods
from unstale.methods import Here, Method
from unstale.testing.contract import contract
from unstale.testing.drive import Drive, Subject, round_robin, smooth, start, uneven
from unstale.testing.laws import DECAY, LR, close, decaying, every_push_counts
from unstale.testing.theory import constant_gradient_limit, follows

__all__: list[str] = []


def _torch_adam(method: Method) -> type[torch.optim.Adam]:
    assert isinstance(method.update, methods.Adam)
    return torch.optim.AdamW if method.update.decoupled else torch.optim.Adam


@contract(lambda method: isinstance(method.update, methods.Adam) and isinstance(method.predict, Here))
def one_worker_is_torch_adam(subject: Subject) -> None:
    """With one worker a method is torch.optim.Adam, or AdamW, also with weight decay and changing η."""
    update = subject.method.update
    assert isinstance(update, methods.Adam)
    weights = start().requires_grad_()
    betas = update.beta1, update.beta2
    follows(subject, weights, _torch_adam(subject.method)([weights], LR, betas, update.eps, weight_decay=DECAY))


@contract(
    lambda method: (
        isinstance(method.update, methods.Adam)
        and isinstance(method.correction, methods.NoCorrection)
        and every_push_counts(method)
    )
)
def moments_follow_penalised_gradients(subject: Subject) -> None:
    """m and s follow the gradient after weight decay and penalty: m ← β₁m + (1 − β₁)g/P, s ← β₂s + (1 − β₂)(g/P)²."""
    update = subject.method.update
    assert isinstance(update, methods.Adam)
    # One element, so that the receipt's mean penalty is the penalty.
    server = subject.serve(start(1), 3, weight_decay=DECAY)
    drive = Drive(server, smooth())
    for worker, push in zip(uneven(3), range(30), strict=False):
        m, s = server.state("m"), server.state("s")
        arrival = drive.push(worker, decaying(push))
        assert arrival is not None
        g = smooth()(arrival.sent, push) + (0.0 if update.decoupled else DECAY) * arrival.before
        g = g / (arrival.receipt.penalty or 1.0)
        assert close(server.state("m"), update.beta1 * m + (1 - update.beta1) * g)
        assert close(server.state("s"), update.beta2 * s + (1 - update.beta2) * g * g)


@contract(lambda method: bool(getattr(method.update, "decoupled", False)))
def decoupled_decay_is_no_gradient(subject: Subject) -> None:
    """Where nothing but decoupled weight decay acts, each update is θ ← (1 − ηλ)θ, whatever the delay."""
    server = subject.serve(start(), 3, weight_decay=DECAY)
    drive = Drive(server, lambda point, push: torch.zeros_like(point))
    for worker, push in zip(uneven(3), range(20), strict=False):
        arrival = drive.push(worker, decaying(push))
        if arrival is not None and arrival.receipt.applied:
            assert close(arrival.after, (1 - decaying(push) * DECAY) * arrival.before, 1e-12)


@contract(lambda method: constant_gradient_limit(method, 4) is not None and isinstance(method.update, methods.Adam))
def adam_penalties_dip_and_return(subject: Subject) -> None:
    """C follows the steps applied, η included: after η falls by k, P dips to 1 + (N−1)/k, then returns to N."""
    if not isinstance(subject.method.scale, methods.AppliedStep):
        return
    update = subject.method.update
    assert isinstance(update, methods.Adam)
    # With a shorter memory than usual, for the return takes several of its lengths.
    quick = subject.method.replace(update=dataclasses.replace(update, beta2=0.97))
    server = dataclasses.replace(subject, method=quick).serve(torch.zeros(3, dtype=torch.float64), 4)
    drive = Drive(server, lambda point, push: torch.tensor([1.0, -0.1, 10.0], dtype=torch.float64))
    drive.run(round_robin(4), 200, LR, look=False)
    later = drive.run(round_robin(4), 500, LR / 10, look=False)
    told = [arrival.receipt.penalty or 0.0 for arrival in later]
    assert math.isclose(told[3], 1.3, rel_tol=0.1), told[3]
    assert math.isclose(told[-1], 4.0, rel_tol=0.02), told[-1]
