"""How good a model's output is, as a number that people quote."""

from __future__ import annotations

from torch import Tensor

__all__ = ["accuracy", "commonest_class_share"]


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Share of examples whose largest output is the target's, in percent: 0-d float64 tensor on the CPU.

    ``output``: (B, classes) float; ``target``: (B,) int64.
    """
    right = (output.argmax(dim=1) == target).sum()
    return 100.0 * right.cpu().double() / len(target)  # float32 would put a model at chance just below chance


def commonest_class_share(targets: Tensor) -> float:
    """The accuracy of always answering the commonest class of ``targets``: (n,) int64; percent."""
    return 100.0 * int(targets.bincount().max()) / len(targets)
