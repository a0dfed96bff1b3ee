"""Many runs side by side: what is compared, where it is kept, what it shows."""

from __future__ import annotations

from unstale.experiments.comparison import Comparison
from unstale.experiments.conduct import compare
from unstale.experiments.orders import Order
from unstale.experiments.outline import Outline, Trial
from unstale.experiments.pool import Failure, Watcher
from unstale.experiments.recipes import PAPER, recipe
from unstale.experiments.reproduce import reproduce
from unstale.experiments.specification import Specification

__all__ = [
    "PAPER",
    "Comparison",
    "Failure",
    "Order",
    "Outline",
    "Specification",
    "Trial",
    "Watcher",
    "compare",
    "recipe",
    "reproduce",
]
