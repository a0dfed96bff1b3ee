"""Which examples make a batch, and where they are read from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset, default_collate

from unstale.checks import whole
from unstale.errors import ArgumentError

__all__ = ["Batches", "Examples", "Numbered", "examples", "fingerprint"]

_STREAM = 0xBA7C4  # keeps these permutations apart from any other use of (seed, epoch)


@lru_cache(maxsize=8)
def permutation(size: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """(size,) the order of an epoch's data; not to be written to."""
    order = np.random.default_rng([seed, epoch, _STREAM]).permutation(size).astype(np.int64, copy=False)
    order.flags.writeable = False
    return order


class Numbered(Protocol):
    """Batches by number, k = 0, 1, 2, … through all epochs."""

    @property
    def per_epoch(self) -> int:
        """Batches in one pass over the data."""

    @property
    def per_stream(self) -> int | None:
        """So many consecutive batches make a stream; None where they make none."""

    def is_full(self, batch: int) -> bool:
        """Whether batch number ``batch`` is as large as they usually are."""

    def indices(self, batch: int) -> NDArray[np.int64]:
        """What `Task.batch` takes to read it."""


@dataclass(frozen=True)
class Batches:
    """Batch number k = 0, 1, 2, … as indices into the data, in any order of asking.

    Data epoch e = k // per_epoch is a permutation of range(size) that depends on (seed, e) alone, and batch k its slice
    k % per_epoch. Where batch_size does not divide size, an epoch's last batch is short, or left out (``drop_last``).

    Raises: ArgumentError unless 1 ≤ batch_size ≤ size and seed ≥ 0, all whole numbers.
    """

    size: int
    batch_size: int
    seed: int
    drop_last: bool = False
    per_stream: ClassVar[None] = None

    def __post_init__(self) -> None:
        for field, least in (("size", 1), ("batch_size", 1), ("seed", 0)):
            object.__setattr__(self, field, whole(field, getattr(self, field), least))
        if self.batch_size > self.size:
            rule = f"batch_size must be at most the {self.size} examples there are"
            raise ArgumentError(f"{rule}, got {self.batch_size}; use batch_size={self.size} for the full batch")

    @property
    def per_epoch(self) -> int:
        """Batches in one pass over the data."""
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def epoch(self, batch: int) -> int:
        """The data epoch that batch number ``batch`` belongs to."""
        return whole("batch", batch, 0) // self.per_epoch

    def is_full(self, batch: int) -> bool:
        """Whether batch number ``batch`` has ``batch_size`` examples: all have, but an epoch's last."""
        return (batch % self.per_epoch + 1) * self.batch_size <= self.size

    def indices(self, batch: int) -> NDArray[np.int64]:
        """The examples of batch number ``batch``: (B,) int64, a fresh array."""
        start = whole("batch", batch, 0) % self.per_epoch * self.batch_size
        return permutation(self.size, self.seed, self.epoch(batch))[start : start + self.batch_size].copy()


class Examples(Protocol):
    """Examples that can be read by index."""

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[np.int64]) -> tuple[Any, Any]:
        """The (inputs, target) of these examples, stacked."""

    @property
    def fingerprint(self) -> str | None:
        """Identifies the content; None where reading all of it would be the only way to know."""


@dataclass(frozen=True, eq=False)
class TensorExamples:
    """Two tensors: inputs (n, …) and targets (n, …)."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Rows of both tensors."""
        index = torch.tensor(indices, dtype=torch.int64, device=self.inputs.device)
        return self.inputs.index_select(0, index), self.targets.index_select(0, index.to(self.targets.device))

    @cached_property
    def fingerprint(self) -> str:
        """Of dtypes, shapes and bytes."""
        return fingerprint([("inputs", self.inputs), ("targets", self.targets)])


@dataclass(frozen=True, eq=False)
class ItemExamples:
    """A map-style dataset, whose items are put together by ``collate``."""

    dataset: Any
    collate: Callable[[list[Any]], Any]

    @property
    def fingerprint(self) -> str | None:
        """The dataset's own, if it has one."""
        own = getattr(self.dataset, "fingerprint", None)
        return own if isinstance(own, str) else None

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, indices: NDArray[np.int64]) -> tuple[Any, Any]:
        """Items one by one, or all at once where the dataset has torch's ``__getitems__``."""
        several = getattr(self.dataset, "__getitems__", None)
        batch = self.collate(several(indices.tolist()) if several else [self.dataset[i] for i in indices.tolist()])
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            got = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
            remedy = "return ((a, b), target) or ({'name': a}, target) for several inputs"
            raise ArgumentError(f"collate_fn must give a pair (inputs, target), got {got}; {remedy}")
        return batch[0], batch[1]


def examples(name: str, data: object, collate_fn: Callable[[list[Any]], Any] | None) -> Examples:
    """What a user calls data, readable by index. ``name`` is the argument's name, for messages.

    Two tensors are sliced directly; any other map-style dataset, or tensors with a ``collate_fn``, item by item.

    Raises: ArgumentError for data that is empty, of unequal length, not indexable, or without a length.
    """
    if isinstance(data, tuple | list) and data and all(isinstance(part, Tensor) for part in data):
        data = _paired(name, tuple(data))
    if type(data) is TensorDataset and collate_fn is None:
        data = _paired(name, data.tensors)
        found: Examples = TensorExamples(*data.tensors)
    else:
        found = ItemExamples(_indexable(name, data), collate_fn or default_collate)
    if len(found) == 0:
        raise ArgumentError(f"{name} must hold at least one example, got none; check how it was loaded or filtered")
    return found


def _paired(name: str, tensors: tuple[Tensor, ...]) -> TensorDataset:
    lengths = [len(tensor) if tensor.ndim else None for tensor in tensors]
    if len(tensors) != 2 or lengths[0] is None or lengths[0] != lengths[1]:
        remedy = "for several inputs pass a Dataset of ((a, b), target)"
        raise ArgumentError(
            f"{name} must be two tensors of equal length (inputs, targets), got lengths {lengths}; {remedy}"
        )
    return TensorDataset(*tensors)


def _indexable(name: str, data: object) -> object:
    remedy = (
        "pass (inputs, targets) tensors, a list of (input, target) pairs, or a Dataset with __len__ and __getitem__"
    )
    rule = f"{name} must be data that can be read by index, for every batch is named by its indices"
    if isinstance(data, IterableDataset):
        raise ArgumentError(f"{rule}; got the IterableDataset {type(data).__name__}: read it into a list first")
    readable = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if not readable or isinstance(data, Tensor | np.ndarray | tuple | Mapping | str | bytes):
        raise ArgumentError(f"{rule}; got {type(data).__name__}: {remedy}")
    return data


def fingerprint(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The first 16 hex digits of a SHA-256 over names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(cast("Any", raw.numpy()))
    return digest.hexdigest()[:16]
