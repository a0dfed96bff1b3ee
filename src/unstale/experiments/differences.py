"""What is trained otherwise than in the paper, as a reader understands it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from unstale.engines import Plan
from unstale.experiments.presets import IN_EPOCHS, OF_TASK, Preset

__all__ = ["differences"]

_NOT_COMPARED = (  # what is said elsewhere, or changes rounding at most
    *("baseline", "seeds", "eval_every", "augment", "root", "device", "executor", "memory_format", "strategy"),
)
_USUAL = {"train_size": "all", "test_size": "all", "width": "the model's own"}
_AUGMENTATIONS = {
    "PadCropFlip": "pad, crop and mirror",
    "RandomResizedCropFlip": "resized random crop and mirror",
}


def differences(preset: Preset, workload: Mapping[str, Any], task: Mapping[str, Any] | None = None) -> list[str]:
    """One line a difference: "epochs: 30 here, 160 in the paper [A]".

    workload: by the preset's names. task: its description; without it, what only that can tell is not compared.
    """
    there = {name: value.value for name, value in preset.paper.items()}
    evidence = {name: f" [{value.evidence}]" for name, value in preset.paper.items()}
    ours = dict(_spread(workload, there)) | {name: _of_task(name, task) for name in OF_TASK if task and name in there}
    theirs = dict(_spread(there, there))
    said = []
    for name in dict.fromkeys([*theirs, *ours]):
        here = _shown(name, ours.get(name), task or {})
        known = _shown(name, theirs.get(name), {})
        compared = name not in _NOT_COMPARED and (task or name not in OF_TASK)
        if compared and here != known:
            source = evidence.get(name) or evidence.get(_origin(name, there), "")
            said.append(f"{name}: {here} here, {known} in the paper{source if name in theirs else ''}")
    return said


def _spread(given: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options of the task one by one; how long it trains under one name where the paper counts steps."""
    for name, value in given.items():
        if name == "task_options":
            yield from value.items()
        elif name in ("epochs", "steps") and "steps" in there:
            yield "length", f"{value:,} {name}"
        else:
            yield name, value


def _origin(name: str, there: Mapping[str, Any]) -> str:
    return "steps" if name == "length" else "task_options" if name in there.get("task_options", {}) else ""


def _of_task(name: str, task: Mapping[str, Any]) -> Any:
    """What a task's description says of the augmentation, or of the streams."""
    if name != "augmentation":
        return task.get(name)
    change = task.get("augment")
    return _AUGMENTATIONS.get(change["type"], change["type"]) if isinstance(change, Mapping) else change


def _shown(name: str, value: Any, task: Mapping[str, Any]) -> str:
    """For readers. What was not given is what the task or the plan takes then."""
    if value is None and name in Plan.__dataclass_fields__:
        value = Plan.__dataclass_fields__[name].default
    if value is None and name not in Plan.__dataclass_fields__ and name not in OF_TASK:
        value = next(_found(name, task), _USUAL.get(name, "as usual"))
    return _plain(name, value)


def _found(name: str, described: Any) -> Iterator[Any]:
    """Values of that name, anywhere in a description: a task's own, its model's, its model's arguments'."""
    if isinstance(described, Mapping):
        if described.get(name) is not None:
            yield described[name]
        for inner in described.values():
            yield from _found(name, inner)
    elif isinstance(described, list | tuple):
        for inner in described:
            yield from _found(name, inner)


def _plain(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if name in IN_EPOCHS:
        listed = value if isinstance(value, list) else [value]
        return ", ".join(f"{100 * share:.3g}%" for share in listed) + " of the training"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
