"""A list of operations as one CUDA graph: launched at once, instead of one after the other by Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Capture", "Captured", "cuda_graph"]

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""What runs once → what does the same again, on the same memory."""


class Captured:
    """``replay`` on memory of its own, which inputs are copied into and results out of.

    ``changed``: the inputs that it writes to, which are copied back.
    """

    def __init__(
        self,
        replay: Callable[..., list[Tensor]],
        inputs: Sequence[Tensor],
        places: Sequence[Tensor],
        changed: Sequence[int],
        capture: Capture,
    ) -> None:
        self._inputs = [value.clone() for value in inputs]
        self._places = [torch.empty_like(place) for place in places]
        self._changed = changed
        self._results: list[Tensor] = []

        def run() -> None:
            self._results = replay(*self._inputs, *self._places)

        self._again = capture(run)

    def __call__(self, *given: Tensor) -> list[Tensor]:
        """As ``replay``."""
        inputs, places = given[: len(self._inputs)], given[len(self._inputs) :]
        _copy(self._inputs, inputs)
        self._again()
        _copy(places, self._places)
        _copy([inputs[at] for at in self._changed], [self._inputs[at] for at in self._changed])
        return [result.clone() for result in self._results]


def cuda_graph(run: Callable[[], None]) -> Callable[[], None]:
    """A CUDA graph of what ``run`` does. Several threads may make theirs at the same time."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        run()  # libraries choose and load what they need before anything is captured
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
        run()
    replay: Callable[[], None] = graph.replay
    return replay


def _copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source, non_blocking=True)
