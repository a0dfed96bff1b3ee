"""The multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from unstale.checks import whole

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear layers with ReLU between them; torch's default initialisation.

    Maps (B, …) of ``inputs`` elements each to (B, classes) logits.

    Raises: ArgumentError for sizes below 1.
    """

    def __init__(self, inputs: int, hidden: Sequence[int] = (256, 256), classes: int = 10) -> None:
        super().__init__()
        widths = [whole("inputs", inputs, 1), *(whole("hidden", width, 1) for width in hidden)]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], whole("classes", classes, 1)))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) → (B, classes)."""
        logits: Tensor = self.layers(inputs)
        return logits
