"""A list of operations as one Python function, which is the fastest way there is to call them one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Slot", "Step", "written"]

# Operations with a form that writes its result where it is wanted, and that form.
INTO = {
    torch.ops.aten.bmm.default: torch.ops.aten.bmm.out,
    torch.ops.aten.sum.dim_IntList: torch.ops.aten.sum.IntList_out,
}
# Those that write running statistics without saying so.
WRITERS = {f"aten::{name}batch_norm" for name in ("native_", "cudnn_", "miopen_")}


class Slot(NamedTuple):
    """The place of one tensor, a view perhaps, in a list of operations. The inputs have the first numbers."""

    number: int

    def __str__(self) -> str:
        return f"v{self.number}"


class Step(NamedTuple):
    """One operation of torch's. Tensors among its arguments and results are slots; ``single``: it gives one tensor."""

    target: Any
    args: list[Any]
    kwargs: Mapping[str, Any]
    results: tuple[Slot | None, ...]
    single: bool

    @property
    def read(self) -> set[Slot]:
        """What it takes, to read or to write to."""
        return set(_slots(self.args)) | set(_slots(list(self.kwargs.values())))

    @property
    def effect(self) -> bool:
        """Whether it writes to what it takes."""
        return bool(self.target._schema.is_mutable) or self.target._schema.name in WRITERS


def written(
    steps: Sequence[Step], inputs: int, results: Sequence[Slot], placed: int, constants: Mapping[Slot, Tensor]
) -> Callable[..., list[Tensor]]:
    """A function of ``inputs`` tensors, and of ``placed`` more to which the last results are written.

    It answers the other results. Memory is given back after its last use.
    """
    kept, moved = results[: len(results) - placed], results[len(results) - placed :]
    makers = {step.results[0]: step.target for step in steps if step.single}
    # What is made to be placed is made there; whoever else reads it reads it there.
    homes = {slot: f"p{at}" for at, slot in reversed(list(enumerate(moved))) if makers.get(slot) in INTO}
    last = {slot: at for at, step in enumerate(steps) for slot in (*step.read, *step.results) if slot is not None}
    scope: dict[str, Any] = {str(slot): value for slot, value in constants.items()}
    given = [*(f"v{number}" for number in range(inputs)), *(f"p{at}" for at in range(placed))]
    lines = [f"def replay({', '.join(given)}):"]
    for at, step in enumerate(steps):
        home = homes.get(step.results[0]) if step.single and step.results[0] is not None else None
        scope[f"op{at}"] = step.target if home is None else INTO[step.target]
        taken = [_text(value, scope) for value in step.args]
        taken += [f"{name}={_text(value, scope)}" for name, value in step.kwargs.items()]
        taken += [] if home is None else [f"out={home}"]
        to = ", ".join("_" if slot is None else str(slot) for slot in step.results)
        lines.append(f"    {to}{'' if step.single else ','} = op{at}({', '.join(taken)})")
        over = {s for s in (*step.read, *step.results) if s is not None and last[s] == at} - {*results, *constants}
        lines += [f"    del {', '.join(map(str, sorted(over)))}"] if over else []
    lines += [f"    p{at}.copy_({slot})" for at, slot in enumerate(moved) if homes.get(slot) != f"p{at}"]
    lines.append(f"    return [{', '.join(map(str, kept))}]")
    exec("\n".join(lines), scope)
    replay: Callable[..., list[Tensor]] = scope["replay"]
    return replay


def _text(value: Any, scope: dict[str, Any]) -> str:
    """An argument as Python: a slot's name, or a constant of the function's."""
    if isinstance(value, Slot):
        return str(value)
    if any(_slots(value)):
        return f"[{', '.join(_text(item, scope) for item in value)}]"
    name = f"c{len(scope)}"
    scope[name] = value
    return name


def _slots(value: Any) -> Iterator[Slot]:
    if isinstance(value, Slot):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _slots(item)
