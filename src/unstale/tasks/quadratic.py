"""Least squares with a known optimum: the task on which theory can be checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unstale.checks import whole
from unstale.errors import ArgumentError
from unstale.tasks.base import Task

__all__ = ["HalfSquares", "Point", "Quadratic", "curvature", "quadratic"]


def curvature(dimensions: int, condition: float) -> Tensor:
    """The diagonal of A: (d,) float32, in equal ratios from 1 down to 1 / condition."""
    return condition ** -torch.linspace(0.0, 1.0, dimensions)


class Point(nn.Module):
    """A model that is one point θ, (d,) float32, starting at 0; it answers a sample with the residual θ − x."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.zeros(dimensions))

    def forward(self, samples: Tensor) -> Tensor:
        """(B, d) → (B, d)."""
        return self.point - samples


@dataclass(frozen=True)
class HalfSquares:
    """The loss ½ rᵀAr of residuals r, (B, d), mean over the batch. The target plays no part in it."""

    condition: float

    def __call__(self, residual: Tensor, target: Tensor) -> Tensor:
        """A 0-d tensor."""
        weights = curvature(residual.shape[-1], self.condition).to(residual.device, residual.dtype)
        return 0.5 * (weights * residual.square()).sum(dim=-1).mean()


def distance(residual: Tensor, target: Tensor) -> Tensor:
    """‖θ − θ*‖₂, from the residual θ − x and its value at the optimum, θ* − x: 0-d tensor."""
    rows: Tensor = torch.linalg.vector_norm(residual - target, dim=-1)
    return rows.mean()


class Quadratic(Task):
    """A quadratic task that knows its solution.

    ``optimum``: (d,) float32, the mean of the samples. ``curvature``: (d,) float32, the eigenvalues of the Hessian.
    """

    def __init__(self, samples: Tensor, condition: float) -> None:
        self.optimum = samples.double().mean(dim=0).float()
        self.curvature = curvature(samples.shape[1], condition)
        data = samples, self.optimum - samples
        super().__init__(
            Point(samples.shape[1]),
            HalfSquares(condition),
            data,
            data,
            distance,
            name="quadratic",
            model_name="point",
            higher_is_better=False,
            score_name="distance",
        )


def quadratic(
    dimensions: int = 10, samples: int = 256, condition: float = 10.0, noise: float = 1.0, seed: int = 0
) -> Quadratic:
    """Find the mean of samples x_k under the loss ½(θ − x_k)ᵀA(θ − x_k); score: distance to it, lower is better.

    A is diagonal with eigenvalues from 1 down to 1 / ``condition``: gradient descent is stable for step sizes below 2.
    Samples are 1 + ``noise``·z with z standard normal, drawn from ``seed``; whatever a run's seed, θ starts at 0, about
    √d from the optimum. The noise of a gradient, A(θ* − x_k), does not depend on θ. The test samples are the training
    samples: the test loss is the objective itself.

    Raises: ArgumentError unless dimensions ≥ 1, samples ≥ 1, condition ≥ 1 and noise ≥ 0.
    """
    shape = whole("samples", samples, 1), whole("dimensions", dimensions, 1)
    for name, value, least in (("condition", condition, 1.0), ("noise", noise, 0.0)):
        if isinstance(value, bool) or not (isinstance(value, int | float) and least <= value < math.inf):
            raise ArgumentError(f"{name} must be a finite number of at least {least:g}, got {value!r}")
    generator = torch.Generator().manual_seed(whole("seed", seed, 0))
    return Quadratic(1.0 + noise * torch.randn(shape, generator=generator), float(condition))
