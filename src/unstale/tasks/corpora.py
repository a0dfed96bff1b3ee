"""Texts from files, from Hugging Face and from Python itself, as whole numbers: one a word, or one a byte."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unstale.errors import DataError

__all__ = ["Parts", "by_bytes", "by_words", "local_parts", "python_reference", "read_lines", "wikitext_parts"]

EOS, UNKNOWN = "<eos>", "<unk>"
BYTES = 256

Lines = Sequence[str]


class Parts(NamedTuple):
    """A text to learn from, one to choose settings by, and one to test on: lines with their line ends."""

    train: Lines
    valid: Lines
    test: Lines


class Encoded(NamedTuple):
    """The same as (T,) int32 tensors, and how many symbols there are."""

    train: Tensor
    valid: Tensor
    test: Tensor
    symbols: int


def read_lines(path: Path) -> list[str]:
    """A UTF-8 file's lines. Raises: DataError, naming the file, if it is missing, empty, or not UTF-8."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            lines = list(file)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8 text, but {error.reason} ({error.object[error.start]:#04x})") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); pass root= a text file") from error
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} must hold text, but it is empty; fetch it again")
    return lines


def local_parts(path: Path) -> Parts:
    """A file's first 90% of characters, the next 5% and the last 5%, each up to the end of a line.

    Raises: DataError, naming the file; also for one of too few lines to be parted so.
    """
    return parted(read_lines(path), str(path))


def parted(lines: Lines, name: str) -> Parts:
    """The same for lines from ``name``."""
    ends = np.cumsum([len(line) for line in lines])
    first, second = (int(np.searchsorted(ends, share * ends[-1])) + 1 for share in (0.9, 0.95))
    parts = Parts(lines[:first], lines[first:second], lines[second:])
    if not all(parts):
        raise DataError(f"{name} must have lines enough to be parted 90 : 5 : 5 between them, got {len(lines)}")
    return parts


def python_reference() -> Parts:
    """Python's own language reference, 0.46 MB of English in its standard library, parted like a file.

    Raises: DataError where Python was installed without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            "the default text is Python's language reference (pydoc_data.topics), which this Python lacks; "
            "pass root= a text file"
        ) from error
    return parted("\n".join(topics[name] for name in sorted(topics)).splitlines(keepends=True), "pydoc_data.topics")


def wikitext_parts(corpus: str, root: Path | None) -> Parts:
    """WikiText from a folder of wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens, or from Hugging Face.

    Raises: DataError, which says what to fetch, for files or a package that are missing.
    """
    names = [f"wiki.{part}.tokens" for part in ("train", "valid", "test")]
    size = {"wikitext-103": "181 MB, unpacked 540 MB", "wikitext-2": "4.3 MB, unpacked 13 MB"}[corpus]
    remedy = (
        f"unpack {corpus}-v1.zip ({size}; Merity et al. 2016) into a folder and pass it as root=, or leave root out "
        f"and install unstale[data] to have the package datasets fetch Salesforce/wikitext from Hugging Face"
    )
    if root is not None:
        missing = [name for name in names if not (root / name).is_file()]
        if missing:
            raise DataError(f"{corpus} needs {', '.join(names)} in {root}; missing: {', '.join(missing)}; {remedy}")
        return Parts(*(read_lines(root / name) for name in names))
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"{corpus} without root= needs the package datasets, which is missing; {remedy}") from error
    try:
        found = datasets.load_dataset("Salesforce/wikitext", f"{corpus}-v1")
        return Parts(*(list(found[part]["text"]) for part in ("train", "validation", "test")))
    except Exception as error:  # whatever a network, a cache or a changed data set may raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{corpus} cannot be had from Hugging Face ({reason}); {remedy}") from error


def by_bytes(parts: Parts) -> Encoded:
    """One symbol a byte of UTF-8, 256 in all."""
    texts = (bytearray("".join(lines).encode()) for lines in parts)
    train, valid, test = (torch.frombuffer(text, dtype=torch.uint8).int() for text in texts)
    return Encoded(train, valid, test, BYTES)


def by_words(parts: Parts, min_count: int = 1) -> Encoded:
    """One symbol a word between spaces, and <eos> for each line's end.

    The vocabulary is that of the training text: <eos> first, then by frequency, of equals the first to appear.
    Words that occur there less than ``min_count`` times, or not at all, are <unk>. WikiText comes with its own <unk>.
    Source: Merity et al. 2016, arXiv 1609.07843; the order is that of Dai et al. 2019's code.
    """
    counts = Counter(word for line in parts.train for word in line.split())
    kept = Counter({word: count for word, count in counts.items() if count >= min_count or word == UNKNOWN})
    kept[UNKNOWN] += counts.total() - kept.total()
    kept.pop(EOS, None)
    numbers = {EOS: 0, **{word: k for k, (word, _) in enumerate(kept.most_common(), 1)}}
    train, valid, test = (_numbered(lines, numbers) for lines in parts)
    return Encoded(train, valid, test, len(numbers))


def _numbered(lines: Iterable[str], numbers: dict[str, int]) -> Tensor:
    found, unknown, eos = array("i"), numbers[UNKNOWN], numbers[EOS]
    for line in lines:
        found.extend(numbers.get(word, unknown) for word in line.split())
        found.append(eos)
    return torch.frombuffer(found, dtype=torch.int32)
