"""A plan on its way to another process, or another machine."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any

from unstale.errors import ArgumentError

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["packed_plan"]


def packed_plan(plan: Plan) -> bytes:
    """A plan as bytes; what is defined in a script travels with it. Raises `ArgumentError`, naming what cannot."""
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps(plan)
    except Exception as error:
        name, reason = _culprit(plan, error)
        raise ArgumentError(
            f"{name} cannot travel to another process ({reason}); make what it holds (an open file, a lock, a "
            "connection) where it is used"
        ) from error
    return packed


def _culprit(plan: Plan, error: Exception) -> tuple[str, str]:
    import cloudpickle

    pieces: list[tuple[str, Any]] = [
        (f"the task's {name.lstrip('_')}", value) for name, value in vars(plan.task).items()
    ]
    pieces += [(name, getattr(plan, name)) for name in plan.__dataclass_fields__]
    for name, piece in pieces:
        try:
            cloudpickle.Pickler(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL).dump(piece)
        except Exception as found:
            return name, f"{type(found).__name__}: {found}"
    return "the plan", f"{type(error).__name__}: {error}"
