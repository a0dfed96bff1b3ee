"""The order of the steps, seen by parts that write down what they are asked and what they are given."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unstale.methods import Block, Method, Part, Step, vector
from unstale.methods.block import Writes
from unstale.testing.contract import contract
from unstale.testing.drive import Subject

__all__: list[str] = []

THETA, GRADIENT, DECAY, RATE = 3.0, 5.0, 0.5, 0.25


class _Spy(Part):
    """Notes each call as (step, what it was given)."""

    state = {"R": vector(7.0)}
    needs = frozenset({"drift", "sent", "average_step"})
    over: Literal["element"] = "element"
    every_push = True

    def __init__(self) -> None:
        self.notes: list[tuple[str, float]] = []
        self.scale = _SpiedScale(self.notes)

    def correct(self, x: Block, g: Tensor) -> tuple[Tensor, Writes]:
        self.notes.append(("correct", float(g[0])))
        return g + 1, {}

    def norms(self, x: Block) -> Writes:
        return {}

    def divisor(self, x: Block) -> Tensor:
        self.notes.append(("penalise", float(x.delay)))
        return torch.full_like(x.theta, 2.0)

    def target(self, live: int) -> int:
        return 1

    def add(self, x: Block, g: Tensor) -> Tensor:
        self.notes.append(("gather", float(g[0])))
        return g

    def mean(self, x: Block, total: Tensor) -> Tensor:
        return total

    def step(self, x: Block, g: Tensor) -> Step:
        self.notes.append(("update", float(g[0])))
        return Step(change=-x.lr * g, velocity=g * 10)

    def point(self, x: Block) -> Tensor:
        self.notes.append(("predict", float(x.theta[0])))
        return x.theta + 100


class _SpiedScale(Part):
    state = {"R": vector(7.0)}

    def __init__(self, notes: list[tuple[str, float]]) -> None:
        self.notes = notes

    def size(self, x: Block) -> Tensor:
        self.notes.append(("size", float(x.R[0])))
        return torch.ones_like(x.theta)

    def observe(self, x: Block, step: Step) -> Writes:
        self.notes.append(("observe", float(step.velocity[0])))
        return {"R": x.R + 1}


@contract()
def steps_come_in_order(subject: Subject) -> None:
    """Correct → weight decay → penalise → gather → update → statistics → predict, each given what the last one made."""
    spy = _Spy()
    method = Method(correction=spy, penalty=spy, gather=spy, update=spy, predict=spy)
    server = subject.server(torch.full((2,), THETA, dtype=torch.float64), method, 2, weight_decay=DECAY)
    tickets = [server.pull(0), server.pull(1)]
    assert tickets[0] is not None
    assert tickets[1] is not None
    gradient = torch.full((2,), GRADIENT, dtype=torch.float64)
    server.exchange(tickets[0], gradient, lr=RATE)
    theta = float(server.params[0])
    spy.notes.clear()
    server.exchange(tickets[1], gradient, lr=RATE)
    penalised = (GRADIENT + 1 + DECAY * theta) / 2
    expected = [
        ("size", 8.0),
        ("correct", GRADIENT),
        ("penalise", 1.0),
        ("gather", penalised),
        ("update", penalised),
        ("observe", penalised * 10),
        ("predict", theta - RATE * penalised),
    ]
    assert spy.notes == expected, f"{spy.notes} instead of {expected}"
