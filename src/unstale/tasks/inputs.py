"""What happens to a batch's inputs on their way from the data to the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Augment", "Identity", "Prepare", "generator"]

Prepare = Callable[[Any], Any]
"""Inputs as they are stored -> inputs as the model takes them; both on the batch's device."""

Augment = Callable[[Any, "np.random.Generator"], Any]  # in quotes, or importing this would load numpy.random
"""Inputs, and random numbers that belong to the batch -> other inputs, of which the target is still true."""

Identity = tuple[int, int]
"""(a run's seed, a batch's number): by it a batch gets the same random numbers, whoever computes it, and where."""

_STREAM = 0xA06  # keeps these numbers apart from any other use of (seed, batch)


def generator(identity: Identity) -> np.random.Generator:
    """The random numbers of one batch: drawn on the CPU, so that they are the same for every device."""
    seed, batch = identity
    return np.random.default_rng([seed, batch, _STREAM])
