"""The operations of one call, written down and repeated: what torch's transforms ask of Python is paid once.

A forward pass over lanes and its backward pass are some dozens of operations of torch's, but getting from a module to
them, through `vmap` and autograd, takes longer than a small network does to compute. The list of operations depends on
the shapes of the inputs alone, for a gradient depends on nothing but its ticket.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from unstale.engines.gradients.captured import Capture, Captured
from unstale.engines.gradients.playback import Slot, Step, written

__all__ = ["Taped", "Tapes"]

TAPES = 8  # of inputs of different shapes; what comes after those is not written down

Replay = Callable[..., list[Tensor]]


class Tapes:
    """Lists of operations by the shapes of their inputs; None where there is no list. For several threads.

    One thread at a time writes one down, for all that it computes meanwhile stays in memory.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.known: dict[object, Replay | None] = {}


class Taped:
    """``function``, from nested tensors to tensors, repeated from its list of operations once it has run.

    The first time with inputs of some shapes it runs and is written down. Where it is no fixed list of operations, it
    runs every time. ``capture``: how to make one launch of the list, see `Captured`. ``changes``: which arguments the
    function may write to. ``tapes``: what others have written down of the same function.
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
            results, replay = self._first(key, inputs, structure, len(places))
            if replay is not None:
                self._ready[key] = replay = self._captured(replay, values, inputs, places)
            if results is None and replay is not None:
                return replay(*inputs, *places)
            results = list(self._function(*values)) if results is None else results
            kept = len(results) - len(places)
            for place, value in zip(places, results[kept:], strict=True):
                place.copy_(value)
            return results[:kept]

    def _first(
        self, key: object, inputs: Sequence[Any], structure: Any, placed: int
    ) -> tuple[list[Tensor] | None, Replay | None]:
        """What the function gives, if it was written down just now, and its list of operations, if there is one."""
        known = self._tapes.known
        with self._tapes.lock:
            if key in known or len(known) == TAPES or not all(isinstance(value, Tensor) for value in inputs):
                return None, known.get(key)
            results, known[key] = _record(self._function, inputs, structure, placed)
            return results, known[key]

    def _captured(
        self, replay: Replay, values: Sequence[Any], inputs: Sequence[Tensor], places: Sequence[Tensor]
    ) -> Replay:
        if self._capture is None:
            return replay
        leaves = {id(leaf) for at in self._changes for leaf in tree_flatten(values[at])[0]}
        changed = [at for at, value in enumerate(inputs) if id(value) in leaves]
        return Captured(replay, inputs, places, changed, self._capture)


class _UnwritableError(Exception):
    """A call is no fixed list of operations."""


def _record(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], structure: Any, placed: int
) -> tuple[list[Tensor], Replay | None]:
    """What the function gives, and how to get it for other inputs."""
    with _Recorder() as recorder:
        results = list(function(*tree_unflatten(inputs, structure)))
    try:
        slots = _Slots(inputs)
        steps = [step for call in recorder.calls if (step := slots.step(call)) is not None]
        wanted = [slots.of(value) for value in results]
    except _UnwritableError:
        return results, None
    return results, written(_needed(steps, wanted), len(inputs), wanted, placed, slots.constants)


class _Call(NamedTuple):
    target: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any


class _Recorder(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No compiler is at work while this records, and loading it to say so would take seconds."""
        return False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[_Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # All tensors are kept while this records, so that no memory is used twice.
        self.calls.append(_Call(func, args, kwargs or {}, result))
        return result


class _Slots:
    """Numbers for tensors. Two of the same shape over the same memory are one: torch wraps them anew as it likes."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        self.constants: dict[Slot, Tensor] = {}
        self._known: dict[object, Slot] = {}
        for value in inputs:
            if _key(value) in self._known:
                raise _UnwritableError("two inputs share their memory")
            self._made(value)

    def of(self, value: Tensor) -> Slot:
        """The slot of a tensor. What nothing has made was there before."""
        if _key(value) not in self._known:
            self.constants[self._made(value)] = value
        return self._known[_key(value)]

    def step(self, call: _Call) -> Step | None:
        """A call as a step; None if it gives back what it takes, as torch's bookkeeping does."""
        single = isinstance(call.result, Tensor)
        values = (call.result,) if single else call.result
        if not isinstance(values, tuple | list) or not all(isinstance(v, Tensor | None) for v in values):
            raise _UnwritableError(f"{call.target} answers something else than tensors")
        named = {name: self._named(value) for name, value in call.kwargs.items()}
        step = Step(call.target, self._named(call.args), named, (), single)
        if not step.effect and single and _key(values[0]) in self._known:
            return None
        return step._replace(results=tuple(None if value is None else self._made(value) for value in values))

    def _made(self, value: Tensor) -> Slot:
        return self._known.setdefault(_key(value), Slot(len(self._known)))

    def _named(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.of(value)
        # Shapes, which are tuples of their own kind, too.
        return [self._named(item) for item in value] if isinstance(value, tuple | list) else value


def _key(value: Tensor) -> object:
    if value.layout != torch.strided or not value.numel():
        return id(value)
    lies = value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride()
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
