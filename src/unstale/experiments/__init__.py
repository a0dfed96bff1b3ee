"""Many runs side by side: what is compared, where it is kept, what it shows."""

from __future__ import annotations

from unstale.experiments.comparison import Comparison
from unstale.experiments.conduct import compare
from unstale.experiments.orders import Order
from unstale.experiments.outline import Outline, Trial
from unstale.experiments.pool import Failure, Watcher
from unstale.experiments.recipes import PAPER, recipe
from unstale.experiments.reproduce import reproduce
from unstale.experiments.space import GRIDS, Choice, Range
from unstale.experiments.specification import Specification
from unstale.experiments.tuned import Tuning
from unstale.experiments.tuning import tune

__all__ = [
    "GRIDS",
    "PAPER",
    "Choice",
    "Comparison",
    "Failure",
    "Order",
    "Outline",
    "Range",
    "Specification",
    "Trial",
    "Tuning",
    "Watcher",
    "compare",
    "recipe",
    "reproduce",
    "tune",
]
