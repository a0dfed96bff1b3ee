"""Attention with relative positions, over a segment and the memory before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

__all__ = ["RelativeAttention", "distances"]


def distances(width: int, longest: int, like: Tensor) -> Tensor:
    """Sines, then cosines, of the distances ``longest`` − 1 … 0: (longest, width), of ``like``'s dtype and device."""
    wide = torch.promote_types(like.dtype, torch.float32)  # bfloat16 cannot tell large distances apart
    rates = 10_000.0 ** -(torch.arange(0, width, 2, device=like.device, dtype=wide) / width)
    angles = torch.outer(torch.arange(longest - 1, -1, -1, device=like.device, dtype=wide), rates)
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].to(like.dtype)


class RelativeAttention(nn.Module):
    """Multi-head attention whose scores depend on contents and on distance, then dropout, residual and LayerNorm.

    With q, k, v and r = W_r·R_(i−j) for query i and key j, a score is ((q_i + u)·k_j + (q_i + v)·r_(i−j)) / √d_head;
    u and v are the same in all layers. A query sees the whole memory, and its segment up to itself.
    Source: Dai et al. 2019, arXiv 1901.02860, section 3.3.
    """

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.contents = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.positions = nn.Linear(width, heads * head_width, bias=False)
        self.output = nn.Linear(heads * head_width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor, positions: Tensor, u: Tensor, v: Tensor) -> Tensor:
        """(B, t, width) after memory (B, m, width), with `distances` (m + t, width), u, v (heads, d_head)."""
        query, key, value = (
            part.unflatten(2, (self.heads, self.head_width)).transpose(1, 2)
            for part in self.contents(torch.cat([memory, x], dim=1)).chunk(3, dim=2)
        )
        query = query[:, :, memory.shape[1] :]
        relative = self.positions(positions).unflatten(1, (self.heads, self.head_width)).transpose(0, 1)
        by_content = (query + u.unsqueeze(1)) @ key.mT
        by_distance = _aligned((query + v.unsqueeze(1)) @ relative.mT)
        scores = (by_content + by_distance) / math.sqrt(self.head_width)
        t, m = x.shape[1], memory.shape[1]
        future = torch.ones(t, m + t, dtype=torch.bool, device=x.device).triu(m + 1)
        weights = scores.masked_fill(future, -math.inf).softmax(dim=3)
        mixed = (weights @ value).transpose(1, 2).flatten(2)
        found: Tensor = self.norm(x + self.dropout(self.output(mixed)))
        return found


def _aligned(scores: Tensor) -> Tensor:
    """(…, t, k) by distance k − 1 … 0 → (…, t, k) by key: row i moved left by t − 1 − i places.

    Row by row, with one column more in front, the elements in memory are those of the rows moved by one place each.
    What comes in on the right belongs to keys in the future, and is masked.
    """
    t, k = scores.shape[-2:]
    padded = pad(scores, (1, 0)).reshape(*scores.shape[:-2], k + 1, t)
    return padded[..., 1:, :].reshape(*scores.shape[:-2], t, k)
