"""The operations of one call, written down and repeated: what torch's transforms ask of Python is paid once.

A forward pass over lanes and its backward pass are some dozens of operations of torch's, but getting from a module to
them, through `vmap` and autograd, takes longer than a small network does to compute. The list of operations depends on
the shapes of the inputs alone, for a gradient depends on nothing but its ticket.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from unstale.dispatch import Recorder
from unstale.engines.gradients.captured import Capture, Captured
from unstale.engines.gradients.playback import Slot, Step, written

__all__ = ["Taped", "Tapes"]

TAPES = 64  # of inputs of different shapes; what comes after those is not written down

Replay = Callable[..., list[Tensor]]


class Tapes:
    """Lists of operations by the shapes of their inputs; None where there is no list. For several threads.

    One thread at a time writes one down.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[object, Replay | None] = {}


class Taped:
    """``function``, from nested tensors to tensors, repeated from its list of operations once it has run.

    The first time with inputs of some shapes it runs once more, on copies, to be written down: a list rounds otherwise
    than what it was taken from, and who comes first among threads is chance. Where it is no fixed list of operations,
    it runs every time.

    ``capture``: how to make one launch of the list, see `Captured`. ``changes``: which arguments the function may write
    to. ``tapes``: what others have written down of the same function.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        capture: Capture | None = None,
        changes: Sequence[int] = (),
        tapes: Tapes | None = None,
    ) -> None:
        self._function, self._capture, self._changes = function, capture, changes
        self._tapes = Tapes() if tapes is None else tapes
        self._ready: dict[object, Replay] = {}

    def __call__(self, *values: Any, places: Sequence[Tensor]) -> list[Tensor]:
        """Writes the last results to ``places``, and answers the others. Inputs must not share memory."""
        inputs, structure = tree_flatten(values)
        key = structure, tuple((v.shape, v.stride(), v.dtype) if isinstance(v, Tensor) else v for v in inputs)
        with torch.no_grad():
            if (ready := self._ready.get(key)) is not None:
                return ready(*inputs, *places)
            replay = self._first(key, values, len(places))
            if replay is not None:
                self._ready[key] = replay = self._captured(replay, values, inputs, places)
                return replay(*inputs, *places)
            results = list(self._function(*values))
            kept = len(results) - len(places)
            for place, value in zip(places, results[kept:], strict=True):
                place.copy_(value)
            return results[:kept]

    def _first(self, key: object, values: Sequence[Any], placed: int) -> Replay | None:
        """The list of operations for inputs of these shapes, written down if nobody has; None where there is none."""
        known = self._tapes.known
        with self._tapes.lock:
            if key not in known and len(known) < TAPES:
                spared = [tree_map(_copied, v) if at in self._changes else v for at, v in enumerate(values)]
                known[key] = _recorded(self._function, *tree_flatten(spared), placed)
            return known.get(key)

    def _captured(
        self, replay: Replay, values: Sequence[Any], inputs: Sequence[Tensor], places: Sequence[Tensor]
    ) -> Replay:
        if self._capture is None:
            return replay
        leaves = {id(leaf) for at in self._changes for leaf in tree_flatten(values[at])[0]}
        changed = [at for at, value in enumerate(inputs) if id(value) in leaves]
        return Captured(replay, inputs, places, changed, self._capture)


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _recorded(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Any], structure: Any, placed: int
) -> Replay | None:
    """How to get what the function gives for other inputs."""
    if not all(isinstance(value, Tensor) for value in inputs):
        return None
    recorder = _Recorder(inputs)
    if recorder.refused:
        return None
    with recorder:
        results = list(function(*tree_unflatten(inputs, structure)))
    slots = recorder.slots
    if recorder.refused:
        return None
    wanted = [slots.of(value) for value in results]
    return written(_needed(recorder.steps, wanted), len(inputs), wanted, placed, slots.constants)


class _Recorder(Recorder):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.slots, self.steps = _Slots(), list[Step]()
        self.refused = len({self.slots.of(value) for value in inputs}) < len(inputs)  # two share their memory
        self.slots.constants.clear()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self.refused:
            return func(*args, **(kwargs or {}))
        taken = self.slots.named(args), {name: self.slots.named(value) for name, value in (kwargs or {}).items()}
        result = func(*args, **(kwargs or {}))
        single = isinstance(result, Tensor)
        values = (result,) if single else result
        # A number that was read off may be another one the next time.
        self.refused = not isinstance(values, tuple | list) or not all(isinstance(v, Tensor | None) for v in values)
        if not self.refused:
            step = Step(func, *taken, (), single)
            # What only gives back what it takes is torch's bookkeeping.
            if step.effect or not single or not self.slots.has(result):
                self.steps.append(
                    step._replace(results=tuple(None if v is None else self.slots.made(v) for v in values))
                )
        return result


class _Slots:
    """Numbers for tensors. Two of the same shape over the same memory are one: torch wraps them anew as it likes.

    Memory is told by its storage, of which a weak reference is kept: what is in it may go, its number does not come
    again.
    """

    def __init__(self) -> None:
        self.constants: dict[Slot, Tensor] = {}
        self._known: dict[object, Slot] = {}
        self._storages: dict[int, StorageWeakRef] = {}
        self._odd: list[Tensor] = []

    def has(self, value: Tensor) -> bool:
        """Whether it was seen."""
        return self._key(value) in self._known

    def of(self, value: Tensor) -> Slot:
        """The slot of a tensor that is taken. What nothing has made was there before."""
        if not self.has(value):
            self.constants[self.made(value)] = value
        return self._known[self._key(value)]

    def made(self, value: Tensor) -> Slot:
        """The slot of a result."""
        return self._known.setdefault(self._key(value), Slot(len(self._known)))

    def named(self, value: Any) -> Any:
        """An argument, with slots for tensors."""
        if isinstance(value, Tensor):
            return self.of(value)
        # Shapes, which are tuples of their own kind, too.
        return [self.named(item) for item in value] if isinstance(value, tuple | list) else value

    def _key(self, value: Tensor) -> object:
        if value.layout != torch.strided or not value.numel():
            self._odd.append(value)  # its number is its own while it lives
            return id(value)
        storage = value.untyped_storage()
        self._storages.setdefault(storage._cdata, StorageWeakRef(storage))
        lies = storage._cdata, value.storage_offset(), value.shape, value.stride()
        return *lies, value.dtype, value.is_conj(), value.is_neg()


def _needed(steps: list[Step], results: Iterable[Slot]) -> list[Step]:
    """Without those whose results nobody reads."""
    wanted = set(results)
    kept = []
    for step in reversed(steps):
        if step.effect or wanted.intersection(step.results):
            wanted |= step.read
            kept.append(step)
    return kept[::-1]
