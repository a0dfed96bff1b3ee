"""Ways to compute outstanding gradients: one by one, in threads, batched over workers."""

from unstale.engines.gradients.base import Computed, Computer, Job
from unstale.engines.gradients.batched import Batched
from unstale.engines.gradients.crew import Crew, Pending
from unstale.engines.gradients.one_by_one import OneByOne, job, one_thread, seed_torch
from unstale.engines.gradients.strategy import AUTO, Strategy, strategy

__all__ = [
    "AUTO",
    "Batched",
    "Computed",
    "Computer",
    "Crew",
    "Job",
    "OneByOne",
    "Pending",
    "Strategy",
    "job",
    "one_thread",
    "seed_torch",
    "strategy",
]
