"""A fleet without processes: every message is there at once, and a test may change what is heard, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from unstale.engines import Plan
from unstale.engines.gradients.base import Computed, Job
from unstale.engines.gradients.one_by_one import OneByOne
from unstale.engines.live.fleet import Arrived, Message, Up
from unstale.server import Server
from unstale.tickets import Ticket

Change = Callable[["Inside", list[Message]], list[Message]]


class Inside:
    """A `Fleet` whose workers answer at once. ``heard(fleet, messages)`` answers what is heard instead."""

    def __init__(self, plan: Plan, server: Server, heard: Change = lambda fleet, messages: messages) -> None:
        module = plan.task.build(plan.seed)
        self.server, self.heard = server, heard
        self.computer = OneByOne(plan, module, server.layout, keep=True)
        self.said: list[Message] = []
        self.alive: set[int] = set()
        self.starts = 0

    def start(self, worker: int) -> bool:
        self.kill(worker)
        self.alive.add(worker)
        self.starts += 1
        self.said.append(Up(worker))
        return True

    def send(self, worker: int, ticket: Ticket) -> None:
        if worker in self.alive:
            computed = self.computer.compute([Job(ticket, None)])[0]
            now = time.monotonic()
            self.said.append(Arrived(worker, ticket.number, computed, (now, now, now)))

    def wait(self, seconds: float) -> list[Message]:
        said, self.said = self.said, []
        heard = self.heard(self, said)
        if not heard:
            time.sleep(min(seconds, 0.01))
        return heard

    def kill(self, worker: int) -> None:
        self.alive.discard(worker)
        self.said = [message for message in self.said if message.worker != worker]

    def wake(self) -> None:
        pass

    def close(self) -> None:
        self.alive.clear()


def inside(heard: Change) -> Callable[[Plan, Server], Any]:
    """What a conductor takes."""
    return partial(Inside, heard=heard)


def once(change: Callable[[Arrived], list[Message]], push: int) -> Change:
    """Push number ``push`` is heard as what ``change`` makes of it."""
    seen = [0]

    def heard(fleet: Inside, messages: list[Message]) -> list[Message]:
        told: list[Message] = []
        for message in messages:
            if isinstance(message, Arrived):
                told += change(message) if seen[0] == push else [message]
                seen[0] += 1
            else:
                told.append(message)
        return told

    return heard


def with_gradient(message: Arrived, gradient: torch.Tensor) -> Arrived:
    return message._replace(computed=Computed(message.computed.loss, gradient, message.computed.buffers))
