"""Language modelling: WikiText, any text file, and symbols drawn from a seed, with Transformer-XL."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unstale import checks
from unstale.checks import choice, whole
from unstale.errors import DataError
from unstale.tasks.corpora import (
    by_bytes,
    by_words,
    local_parts,
    python_reference,
    wikitext_parts,
)
from unstale.tasks.models.language import for_text
from unstale.tasks.streams import StreamTask, unigram_perplexity

__all__ = ["synthetic_text", "text", "wikitext"]

CORPORA = ("wikitext-103", "wikitext-2")
LEVELS = ("byte", "word")
PARTS = ("test", "valid")


def text(
    model: str = "transformer_xl_tiny",
    root: str | Path | None = None,
    level: str = "byte",
    streams: int = 64,
    target: int | None = None,
    memory: int | None = None,
    dropout: float | None = None,
    min_count: int = 3,
    score_on: str = "test",
) -> StreamTask:
    """Any text file, or Python's own language reference (0.46 MB); score: perplexity, lower is better.

    ``root``: a UTF-8 file. Its first 90% of characters are for training, the next 5% for choosing settings
    (``score_on="valid"``), the last 5% for testing, each up to the end of a line. None: the language reference in
    Python's standard library, a real if dry English text that every user has; it differs between versions of Python,
    which a run's configuration shows as the data's fingerprint.
    ``level``: "byte" (256 symbols), or "word", where words that the training text has less than ``min_count`` times are
    <unk>. A perplexity is per symbol of its level.
    ``model``: "transformer_xl_tiny" (2 layers, width 64, segments and memory of 32, no dropout), "transformer_xl_small"
    (4 layers, width 128, 64, dropout 0.1) or "transformer_xl" (base: 16 layers, width 410, 150, dropout 0.1).
    ``target``, ``memory``, ``dropout``: predictions in a segment, positions remembered, and dropout, instead.
    ``streams``: see `StreamTask`; so many workers at most.

    Raises: DataError, naming the file, if it is missing, empty, not UTF-8 or too short; ArgumentError or
        UnknownNameError for the rest.
    """
    choice("level", level, LEVELS)
    parts = python_reference() if root is None else local_parts(checks.path("root", root))
    encoded = by_bytes(parts) if level == "byte" else by_words(parts, whole("min_count", min_count, 1))
    source = "pydoc_data.topics" if root is None else str(root)
    return _task("text", source, encoded, model, streams, target, memory, dropout, score_on)


def wikitext(
    model: str = "transformer_xl",
    root: str | Path | None = None,
    corpus: str = "wikitext-103",
    streams: int = 64,
    target: int | None = None,
    memory: int | None = None,
    dropout: float | None = None,
    score_on: str = "test",
) -> StreamTask:
    """WikiText, 103 million words (267,735 different) or 2 million; score: perplexity per word, lower is better.

    ``root``: a folder of wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens; None: Hugging Face's cache or hub,
    through the package datasets (``unstale[data]``).
    ``corpus``: "wikitext-103" or "wikitext-2". The rest is as for `text`.

    Raises: DataError for data that are missing, saying what to fetch, or damaged; ArgumentError, UnknownNameError.
    Source: Merity et al. 2016, arXiv 1609.07843.
    """
    choice("corpus", corpus, CORPORA)
    folder = None if root is None else checks.path("root", root)
    encoded = by_words(wikitext_parts(corpus, folder))
    return _task("wikitext", str(root or corpus), encoded, model, streams, target, memory, dropout, score_on)


def synthetic_text(
    model: str = "transformer_xl",
    vocabulary: int = 267_735,
    tokens: int = 1_000_000,
    seed: int = 0,
    streams: int = 64,
    target: int | None = None,
    memory: int | None = None,
    dropout: float | None = None,
) -> StreamTask:
    """Words drawn from a seed, to run a model of full size without its data; nothing can be learned but frequencies.

    Word k of ``vocabulary`` has a probability in proportion to 1/(k + 3), about as in a real text. Of the ``tokens``,
    a hundredth is for testing. The rest is as for `text`.

    Raises: ArgumentError, UnknownNameError.
    """
    shares = 1.0 / (np.arange(whole("vocabulary", vocabulary, 2)) + 3.0)
    edges = np.cumsum(shares / shares.sum())
    drawn = np.random.default_rng(whole("seed", seed, 0)).random(whole("tokens", tokens, 400))
    words = torch.from_numpy(np.searchsorted(edges[:-1], drawn).astype(np.int32))
    held_out = tokens // 100
    parts = words[held_out:], words[:held_out], words[:held_out], vocabulary
    return _task("synthetic_text", "the synthetic text", parts, model, streams, target, memory, dropout, "test")


def _task(
    name: str,
    source: str,
    encoded: tuple[Tensor, Tensor, Tensor, int],
    model: str,
    streams: int,
    target: int | None,
    memory: int | None,
    dropout: float | None,
    score_on: str,
) -> StreamTask:
    choice("score_on", score_on, PARTS)
    train, valid, test, symbols = encoded
    scored = test if score_on == "test" else valid
    build, segment = for_text(model, symbols, memory=memory, dropout=dropout)
    target = whole("target", segment if target is None else target, 1)
    if len(train) <= target * whole("streams", streams, 1) or len(scored) < 2:
        raise DataError(
            f"{source} is too short: {len(train):,} symbols to learn from must give each of {streams} streams a "
            f"segment of {target}, and {len(scored):,} be enough to score; pass a longer text, or fewer streams"
        )
    return StreamTask(
        build,
        train,
        scored,
        target=target,
        streams=streams,
        name=name,
        model_name=model,
        chance=unigram_perplexity(scored[1:]),
    )
