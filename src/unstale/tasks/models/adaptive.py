"""A vocabulary in bands, frequent words first: adaptive input embeddings, and the adaptive softmax that shares them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, log_softmax

from unstale.checks import whole
from unstale.errors import ArgumentError

__all__ = ["AdaptiveEmbedding", "AdaptiveSoftmax", "Vocabulary"]

INIT_STD, PROJECTION_STD = 0.02, 0.01


@dataclass(frozen=True)
class Vocabulary:
    """``size`` symbols, the most frequent first, in bands cut at ``cutoffs``; band i has width // div_val**i features.

    Raises: ArgumentError unless the cutoffs ascend within the vocabulary, and every band has a feature.
    """

    size: int
    cutoffs: tuple[int, ...] = ()
    div_val: int = 1

    def __post_init__(self) -> None:
        whole("vocabulary", self.size, 2)
        whole("div_val", self.div_val, 1)
        edges = (0, *self.cutoffs, self.size)
        if any(after <= before for before, after in pairwise(edges)):
            raise ArgumentError(
                f"cutoffs must ascend between 0 and the vocabulary's {self.size} symbols, got {self.cutoffs}; "
                f"leave out those that are too large"
            )

    @property
    def bands(self) -> list[tuple[int, int]]:
        """The first symbol of each band, and the one after its last."""
        return list(pairwise((0, *self.cutoffs, self.size)))

    def widths(self, width: int) -> list[int]:
        """The features of each band's embedding. Raises: ArgumentError if a band would have none."""
        found = [width // self.div_val**band for band in range(len(self.bands))]
        if not found[-1]:
            raise ArgumentError(f"div_val must leave the last band a feature, got {self.div_val} for width {width}")
        return found


class AdaptiveEmbedding(nn.Module):
    """Symbols → features, times √width. Bands with div_val > 1 have narrower tables, each with a projection.

    ``tables``: one (band, features) parameter a band. ``projections``: (width, features) each, none with div_val = 1.
    Weights are normal with σ = 0.02, projections with σ = 0.01, as in the authors' code.
    Source: Dai et al. 2019, arXiv 1901.02860; Baevski, Auli 2019, arXiv 1809.10853.
    """

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        self.vocabulary, self.width = vocabulary, width
        widths = vocabulary.widths(width)
        shapes = [(stop - start, n) for (start, stop), n in zip(vocabulary.bands, widths, strict=True)]
        self.tables = nn.ParameterList(_normal(shape, INIT_STD) for shape in shapes)
        projected = shapes if vocabulary.div_val > 1 else []
        self.projections = nn.ParameterList(_normal((width, n), PROJECTION_STD) for _, n in projected)

    def forward(self, symbols: Tensor) -> Tensor:
        """(…) whole numbers → (…, width)."""
        flat = symbols.reshape(-1)
        found = self.tables[0].new_zeros(len(flat), self.width)
        for number, (start, stop) in enumerate(self.vocabulary.bands):
            # Every symbol is looked up in every band and kept in its own: no shape depends on the data.
            inside = ((flat >= start) & (flat < stop)).unsqueeze(1)
            rows = embedding((flat - start).clamp(0, stop - start - 1), self.tables[number])
            rows = linear(rows, self.projections[number]) if self.projections else rows
            found = found + torch.where(inside, rows, 0.0)
        scaled: Tensor = found.view(*symbols.shape, self.width) * math.sqrt(self.width)
        return scaled


class AdaptiveSoftmax(nn.Module):
    """The log-probability of a symbol: that of its band, and within the band. The tables are the embedding's own.

    The first band and one entry for each other band make the head. With div_val > 1, the projections of all bands but
    the first are the embedding's too (in the authors' words, tie_projs = False, True, True, …). Without cutoffs this is
    a plain softmax. Rows of other bands than the first are gathered, so that no more is computed than is needed.
    Source: Grave et al. 2017, arXiv 1609.04309; Dai et al. 2019.
    """

    def __init__(self, shared: AdaptiveEmbedding) -> None:
        super().__init__()
        self.vocabulary = shared.vocabulary
        tails = len(self.vocabulary.bands) - 1
        first = self.vocabulary.widths(shared.width)[0]
        self.biases = nn.ParameterList(torch.zeros(stop - start) for start, stop in self.vocabulary.bands)
        self.band_weight = _normal((tails, first), INIT_STD) if tails else None
        self.band_bias = nn.Parameter(torch.zeros(tails)) if tails else None
        self.projection = _normal((shared.width, first), PROJECTION_STD) if shared.projections else None

    def forward(self, hidden: Tensor, targets: Tensor, shared: AdaptiveEmbedding) -> Tensor:
        """(n, width) features and (n,) targets → (n,) negative log-likelihoods, in nats."""
        head = self._head(hidden, shared)
        if self.band_weight is None:
            return -head.gather(1, targets.unsqueeze(1).long()).squeeze(1)
        first = self.vocabulary.bands[0][1]
        bounds = torch.tensor(self.vocabulary.cutoffs, device=targets.device)
        band = torch.bucketize(targets, bounds, right=True)
        entry = torch.where(band == 0, targets, first + band - 1)
        found = -head.gather(1, entry.unsqueeze(1).long()).squeeze(1)
        for number, (start, _) in enumerate(self.vocabulary.bands):
            rows = (band == number).nonzero().squeeze(1) if number else targets[:0]
            if len(rows):
                within = self._tail(hidden[rows], number, shared)
                own = within.gather(1, (targets[rows] - start).unsqueeze(1).long()).squeeze(1)
                found = found.index_add(0, rows, -own)
        return found

    def log_probabilities(self, hidden: Tensor, shared: AdaptiveEmbedding) -> Tensor:
        """(n, width) → (n, vocabulary): all of them, for small vocabularies."""
        head = self._head(hidden, shared)
        first = self.vocabulary.bands[0][1]
        tails = [
            head[:, first + number - 1, None] + self._tail(hidden, number, shared)
            for number in range(1, len(self.vocabulary.bands))
        ]
        return torch.cat([head[:, :first], *tails], dim=1)

    def _head(self, hidden: Tensor, shared: AdaptiveEmbedding) -> Tensor:
        weight, bias = shared.tables[0], self.biases[0]
        if self.band_weight is not None and self.band_bias is not None:
            weight, bias = torch.cat([weight, self.band_weight]), torch.cat([bias, self.band_bias])
        return log_softmax(linear(_projected(hidden, self.projection), weight, bias), dim=1)

    def _tail(self, hidden: Tensor, number: int, shared: AdaptiveEmbedding) -> Tensor:
        projection = shared.projections[number] if shared.projections else None
        return log_softmax(linear(_projected(hidden, projection), shared.tables[number], self.biases[number]), dim=1)


def _normal(shape: Sequence[int], std: float) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape).normal_(0.0, std))


def _projected(hidden: Tensor, projection: Tensor | None) -> Tensor:
    return hidden if projection is None else hidden @ projection
