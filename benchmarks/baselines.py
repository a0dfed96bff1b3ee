"""The opponents: a plain training loop, and a simulator as research code publishes it.

Both are written as one would write them by hand, from the equations alone, and take a plan's own batches.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from unstale.engines.base import Plan

MOMENTUM, RHO, EPS = 0.9, 0.999, 1e-8


class _Loop:
    """A model and the batches that it is trained on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.lr = plan.schedule(0.0)
        self.model = plan.task.build(plan.seed).to(plan.device, plan.dtype).train()
        self.params = list(self.model.parameters())
        self.done = 0

    def loss(self, batch: int) -> Tensor:
        """The loss on batch number ``batch``, after its backward pass."""
        inputs, target = self.plan.task.batch(self.plan.batches.indices(batch), self.plan.device)
        loss = self.plan.task.loss(self.model(inputs.to(self.plan.dtype)), target)
        loss.backward()
        return loss


class PlainLoop(_Loop):
    """One model trained by torch.optim.SGD: what a step costs anybody, without workers and without delay."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.optimizer = torch.optim.SGD(self.params, lr=self.lr, momentum=MOMENTUM, nesterov=True, foreach=True)

    def advance(self, steps: int) -> None:
        """So many further steps."""
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self.loss(self.done)
            self.optimizer.step()
            loss.item()
            self.done += 1


class Published(_Loop):
    """A heap of timed workers around a training loop; everything parameter by parameter, cloned at each event.

    This is asgd, θ ← θ − ηg; other methods have their own step and reply.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.durations = plan.clock.stream(plan.seed)
        self.theta = [p.detach().clone() for p in self.params]
        self.sent = [[theta.clone() for theta in self.theta] for _ in range(plan.workers)]
        self.batch = list(range(plan.workers))
        self.version = [0] * plan.workers
        self.jobs = [0] * plan.workers
        self.history: list[tuple[float, float]] = []
        self.events = [(self.durations.duration(worker, 0), worker) for worker in range(plan.workers)]
        heapq.heapify(self.events)

    def advance(self, steps: int) -> None:
        """So many further events."""
        for _ in range(steps):
            now, worker = heapq.heappop(self.events)
            with torch.no_grad():
                for p, w in zip(self.params, self.sent[worker], strict=True):
                    p.copy_(w)
            self.model.zero_grad()
            loss = self.loss(self.batch[worker])
            with torch.no_grad():
                gaps = [(theta - w).norm() for theta, w in zip(self.theta, self.sent[worker], strict=True)]
                grads = [p.grad for p in self.params if p.grad is not None]
                self.update(worker, grads, delay=self.done - self.version[worker])
                self.done += 1
                self.sent[worker] = self.reply()
            self.history.append((loss.item(), torch.stack(gaps).norm().item()))
            self.version[worker] = self.done
            self.batch[worker] = self.done + self.plan.workers - 1
            self.jobs[worker] += 1
            heapq.heappush(self.events, (now + self.durations.duration(worker, self.jobs[worker]), worker))

    def update(self, worker: int, grads: list[Tensor], delay: int) -> None:
        """The method's step."""
        for theta, g in zip(self.theta, grads, strict=True):
            theta.sub_(self.lr * g)

    def reply(self) -> list[Tensor]:
        """The point that the worker differentiates at next."""
        return [theta.clone() for theta in self.theta]


class PublishedDanaGa(Published):
    """g ← g/(1 + |θ − w_i|/C), C = η(√(R/(1 − ρⁿ)) + ε);  v_i ← γv_i + g;  θ ← θ − ηv_i;  w_i = θ − ηγΣv_j."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.v = [[torch.zeros_like(p) for p in self.theta] for _ in range(plan.workers)]
        self.S = [torch.zeros_like(p) for p in self.theta]
        self.R = [torch.zeros_like(p) for p in self.theta]

    def update(self, worker: int, grads: list[Tensor], delay: int) -> None:
        state = zip(grads, self.theta, self.sent[worker], self.v[worker], self.S, self.R, strict=True)
        for g, theta, w, v, S, R in state:
            if delay > 0:
                C = self.lr * ((R / (1 - RHO**self.done)).sqrt() + EPS)
                g = g / (1 + (theta - w).abs() / C)
            S.sub_(v)
            v.mul_(MOMENTUM).add_(g)
            S.add_(v)
            theta.sub_(self.lr * v)
            R.mul_(RHO).add_((1 - RHO) * v * v)

    def reply(self) -> list[Tensor]:
        return [theta - self.lr * MOMENTUM * S for theta, S in zip(self.theta, self.S, strict=True)]


PUBLISHED: dict[str, type[Published]] = {"asgd": Published, "dana_ga": PublishedDanaGa}
