"""Methods that go wrong, where a worker process can import them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from torch import Tensor

from unstale.methods import Method
from unstale.methods.block import Block, Step
from unstale.methods.update import Nesterov


@dataclass(frozen=True)
class Deadly(Nesterov):
    """Takes the process with it."""

    def step(self, x: Block, g: Tensor) -> Step:
        os._exit(3)


@dataclass(frozen=True)
class Failing(Nesterov):
    """Raises what is no error of ours, and cannot travel between processes."""

    def step(self, x: Block, g: Tensor) -> Step:
        raise TwoWords("out", "of order")


class TwoWords(Exception):  # noqa: N818
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


DEADLY = Method(update=Deadly(0.9), name="deadly")
FAILING = Method(update=Failing(0.9), name="failing")
