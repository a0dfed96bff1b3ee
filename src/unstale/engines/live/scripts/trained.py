"""What scripts train together: a model like that of the first one, and the server that has its parameters."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from unstale.engines.evaluate import named_tensors
from unstale.engines.live.scripts.likeness import Likeness
from unstale.engines.live.scripts.terms import Terms
from unstale.errors import ArgumentError

__all__ = ["Trained"]


class Trained:
    """A ``server`` of ``model``, by these terms. ``point``: where the points of a worker are to lie, (d,)."""

    def __init__(self, terms: Terms, likeness: Likeness, model: nn.Module, point: Callable[[int], Tensor]) -> None:
        self._likeness, self._model = likeness, model
        self.server = terms.server(model)
        if likeness.kind.itemsize >= 4:
            self.server.place_points(point)

    def check(self, likeness: Likeness) -> None:
        """Raises `ArgumentError` for a model that is not like it."""
        if difference := self._likeness.difference(likeness):
            raise ArgumentError(f"model must be like the server's, but {difference}; build the same in every script")

    def params(self) -> dict[str, Tensor]:
        """θ by name, and the buffers that an evaluation uses."""
        self.server.load_into(self._model)
        return named_tensors(self._model)

    def state_dict(self) -> dict[str, Any]:
        """With what the model is like, for one who has none."""
        initial = dict(self._model.named_buffers())
        return {"likeness": asdict(self._likeness), "initial": initial, "server": self.server.state_dict()}

    @classmethod
    def of(cls, state: Mapping[str, Any], terms: Terms, point: Callable[[int], Tensor]) -> Trained:
        """As it was."""
        likeness = Likeness.unpacked(json.dumps(state["likeness"]).encode())
        values = torch.zeros(likeness.size, dtype=likeness.kind)
        trained = cls(terms, likeness, likeness.build(values, state["initial"]), point)
        trained.server.load_state_dict(state["server"])
        return trained
