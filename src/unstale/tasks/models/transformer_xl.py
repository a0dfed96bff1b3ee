"""Transformer-XL: a language model whose segments remember those before them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unstale import checks
from unstale.errors import ArgumentError
from unstale.tasks.models.adaptive import INIT_STD, AdaptiveEmbedding, AdaptiveSoftmax, Vocabulary
from unstale.tasks.models.attention import RelativeAttention, distances

__all__ = ["Predicted", "Shape", "TransformerXL"]


@dataclass(frozen=True)
class Shape:
    """The size of a Transformer-XL. The default is the base model for WikiText-103.

    Raises: ArgumentError for sizes below 1, or a dropout that is not from 0 to below 1.
    """

    layers: int = 16
    width: int = 410
    heads: int = 10
    head_width: int = 41
    inner: int = 2100
    dropout: float = 0.1
    memory: int = 150

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "head_width", "inner"):
            checks.whole(name, getattr(self, name), 1)
        checks.whole("memory", self.memory, 0)
        checks.set_number(self, "dropout", lambda x: 0 <= x < 1, "be from 0 to below 1", "0.1 is usual, 0 means none")


class Predicted(NamedTuple):
    """Negative log-likelihoods of the targets, (B, t), in nats; and the memory for the next segment."""

    losses: Tensor
    memory: tuple[Tensor, ...]


class TransformerXL(nn.Module):
    """Transformer-XL with relative positions, segment-level recurrence and tied adaptive embeddings and softmax.

    Maps (B, t) symbols, the (B, t) that follow each, and a memory of at most ``shape.memory`` positions to `Predicted`.
    The memory is one tensor (layers, B, m, width), the inputs of every layer, without gradients; none means m = 0.
    LayerNorm comes after the residual. Weights are normal with σ = 0.02, LayerNorm's around 1, biases 0, projections
    of narrow bands σ = 0.01: the authors' code, whose PyTorch version also shares u and v among layers, ties input and
    output embeddings, and for WikiText-103 has cutoffs 20,000, 40,000 and 200,000 with div_val = 1, so without
    projections: 151,107,538 parameters.
    Source: Dai et al. 2019, "Transformer-XL", arXiv 1901.02860, and the authors' public code (run_wt103_base.sh).
    """

    def __init__(self, vocabulary: Vocabulary, shape: Shape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or Shape()
        self.embedding = AdaptiveEmbedding(vocabulary, shape.width)
        self.u = nn.Parameter(torch.empty(shape.heads, shape.head_width))
        self.v = nn.Parameter(torch.empty(shape.heads, shape.head_width))
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.layers))
        self.dropout = nn.Dropout(shape.dropout)
        self.softmax = AdaptiveSoftmax(self.embedding)
        for parameter in (self.u, self.v):
            nn.init.normal_(parameter, 0.0, INIT_STD)
        self.blocks.apply(_initialise)

    def forward(self, symbols: Tensor, targets: Tensor, memory: Tensor | None = None) -> Predicted:
        """See the class. Raises: ArgumentError for a memory of other columns, layers or width."""
        hidden, left = self.features(symbols, memory)
        losses = self.softmax(hidden.flatten(0, 1), targets.reshape(-1), self.embedding)
        return Predicted(losses.view(targets.shape), (left,))

    def features(self, symbols: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, t, width) outputs of the last block, and the memory for the next segment."""
        x = self.dropout(self.embedding(symbols))
        memory = x.new_zeros(len(self.blocks), len(x), 0, self.shape.width) if memory is None else memory
        wanted = (len(self.blocks), len(x), self.shape.width)
        if (*memory.shape[:2], *memory.shape[3:]) != wanted:
            raise ArgumentError(f"memory must be (layers, B, m, width) for {wanted}, got {tuple(memory.shape)}")
        positions = self.dropout(distances(self.shape.width, memory.shape[2] + x.shape[1], x))
        left = []
        for block, before in zip(self.blocks, memory, strict=True):
            left.append(torch.cat([before, x.detach()], dim=1))
            x = block(x, before, positions, self.u, self.v)
        kept = max(0, left[0].shape[1] - self.shape.memory)
        return self.dropout(x), torch.stack([inputs[:, kept:] for inputs in left])


class _Block(nn.Module):
    """Attention, then two layers on each position alone."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention = RelativeAttention(shape.width, shape.heads, shape.head_width, shape.dropout)
        self.inner = nn.Sequential(
            nn.Linear(shape.width, shape.inner),
            nn.ReLU(),
            nn.Dropout(shape.dropout),
            nn.Linear(shape.inner, shape.width),
            nn.Dropout(shape.dropout),
        )
        self.norm = nn.LayerNorm(shape.width)

    def forward(self, x: Tensor, memory: Tensor, positions: Tensor, u: Tensor, v: Tensor) -> Tensor:
        x = self.attention(x, memory, positions, u, v)
        found: Tensor = self.norm(x + self.inner(x))
        return found


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, INIT_STD)
    elif isinstance(module, nn.LayerNorm):
        nn.init.normal_(module.weight, 1.0, INIT_STD)
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(module.bias)  # type: ignore[arg-type]
