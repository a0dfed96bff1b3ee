"""The language models of the built-in tasks, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from unstale.errors import UnknownNameError
from unstale.tasks.models.adaptive import Vocabulary
from unstale.tasks.models.transformer_xl import Shape, TransformerXL

__all__ = ["for_text"]

WIKITEXT_CUTOFFS = (20_000, 40_000, 200_000)

_SHAPES = {
    "transformer_xl": Shape(),
    "transformer_xl_small": Shape(layers=4, width=128, heads=4, head_width=32, inner=512, memory=64),
    "transformer_xl_tiny": Shape(layers=2, width=64, heads=4, head_width=16, inner=256, dropout=0.0, memory=32),
}


def for_text(
    model: str, symbols: int, memory: int | None = None, dropout: float | None = None
) -> tuple[Callable[[], nn.Module], int]:
    """A factory of the named model for so many ``symbols``, and the segment's usual length.

    The cutoffs are WikiText-103's, those that lie within the vocabulary.

    Raises: UnknownNameError for another name; ArgumentError for a memory below 0, or a dropout not from 0 to below 1.
    """
    if model not in _SHAPES:
        raise UnknownNameError("model", model, _SHAPES)
    usual = _SHAPES[model]
    shape = replace(
        usual,
        memory=usual.memory if memory is None else memory,
        dropout=usual.dropout if dropout is None else dropout,
    )
    vocabulary = Vocabulary(symbols, tuple(cut for cut in WIKITEXT_CUTOFFS if cut < symbols))
    return partial(TransformerXL, vocabulary, shape), usual.memory
