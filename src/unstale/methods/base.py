"""A method is data: nine answers, one Protocol per slot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from unstale.errors import MethodError
from unstale.methods.admission import EveryPush
from unstale.methods.block import State
from unstale.methods.correction import NoCorrection
from unstale.methods.gate import Open
from unstale.methods.gather import Each
from unstale.methods.local import OneGradient
from unstale.methods.penalty import NoPenalty
from unstale.methods.predict import Here
from unstale.methods.scale import AverageStep
from unstale.methods.slots import (
    SLOTS,
    Admission,
    Correction,
    Gate,
    Gather,
    Local,
    Penalty,
    Predict,
    Scale,
    StepSize,
    Update,
)
from unstale.methods.step_size import Scheduled
from unstale.methods.update import Sgd

__all__ = ["Method"]


# What every block has, whatever the parts: these need not be declared by anyone.
NUMBERS = frozenset({"lr", "lr_max", "lr_last", "delay", "updates", "workers", "count", "decay"})
DERIVED = frozenset({"theta", "sent", "drift", "average_step", "prediction"})


@dataclass(frozen=True)
class Method:
    """Nine answers. A published method changes two or three of them.

    Raises `MethodError` when a part does not fit its slot, when a part needs what no part keeps, or when two parts
    contradict each other.
    """

    gate: Gate = Open()
    local: Local = OneGradient()
    admission: Admission = EveryPush()
    correction: Correction = NoCorrection()
    penalty: Penalty = NoPenalty()
    gather: Gather = Each()
    step_size: StepSize = Scheduled()
    update: Update = Sgd()
    predict: Predict = Here()
    name: str = field(default="custom", compare=False)

    slots: ClassVar[tuple[str, ...]] = tuple(SLOTS)

    def __post_init__(self) -> None:
        for slot, protocol in SLOTS.items():
            if isinstance(getattr(self, slot), type) or not isinstance(getattr(self, slot), protocol):
                wanted = " and ".join(_members(protocol))
                raise MethodError(
                    f"{slot} must be a part with {wanted}, got {getattr(self, slot)!r}; "
                    f"see unstale.methods.{protocol.__name__}"
                )
        _check_coherence(self)

    @property
    def parts(self) -> dict[str, object]:
        """The nine parts by slot, and the scale of the average step."""
        return {**{slot: getattr(self, slot) for slot in SLOTS}, "scale": self.scale}

    @property
    def scale(self) -> Scale:
        """C is the penalty's own, else the update's natural one, else the running average of the momentum."""
        for part in (self.penalty, self.update):
            own = getattr(part, "scale", None)
            if isinstance(own, Scale):
                return own
        return AverageStep()

    @property
    def states(self) -> dict[str, State]:
        """Everything that the nine parts keep between pushes, by name."""
        return {name: state for slot in SLOTS for name, state in getattr(getattr(self, slot), "state", {}).items()}

    @property
    def gives(self) -> dict[str, float]:
        """The numbers that parts read from one another, such as the update's momentum."""
        parts = [getattr(self, slot) for slot in SLOTS]
        return {name: getattr(part, name) for part in parts for name in getattr(part, "gives", ())}

    @property
    def needs(self) -> frozenset[str]:
        """Every name that some part reads and does not keep itself."""
        return frozenset().union(*(getattr(part, "needs", ()) for part in self.parts.values()))

    def replace(self, **parts: object) -> Method:
        """The same method with other parts: ``ga().replace(gather=Mean(4))``."""
        return dataclasses.replace(self, **{"name": "custom", **parts})  # type: ignore[arg-type]


def _members(protocol: type) -> list[str]:
    return sorted(name for name in vars(protocol) if not name.startswith("_"))


def _check_coherence(method: Method) -> None:
    owners: dict[str, tuple[str, State]] = {}
    for slot, part in method.parts.items():
        for name, state in getattr(part, "state", {}).items():
            if name in NUMBERS | DERIVED:
                raise MethodError(f"{slot} keeps a state called {name!r}, which every block already has; rename it")
            if name in owners and owners[name][1] != state:
                raise MethodError(
                    f"{owners[name][0]} and {slot} both keep a state called {name!r}, but not the same one; rename one"
                )
            owners[name] = (slot, state)
    known = set(owners) | NUMBERS | DERIVED | set(method.gives)
    for slot, part in method.parts.items():
        for name in sorted(set(getattr(part, "needs", ())) - known):
            raise MethodError(
                f"{slot}={type(part).__name__} needs {name!r}, which no part of this method keeps or gives; "
                f"{getattr(part, 'remedy', 'add a part that declares it')}"
            )
    for name, (slot, state) in owners.items():
        if state.sum_of is not None and owners.get(state.sum_of, ("", State("scalar")))[1].kind != "per_worker":
            remedy = getattr(method.parts[slot], "remedy", "let a part keep it per_worker()")
            raise MethodError(
                f"{slot} keeps {name!r} as the sum of {state.sum_of!r}, which is no per-worker state; {remedy}"
            )
    if not method.gather.every_push:
        _check_gathered(method, owners)


def _check_gathered(method: Method, owners: Mapping[str, tuple[str, State]]) -> None:
    """A gathered update has no single worker and no single delay."""
    if type(method.step_size) is not Scheduled:
        raise MethodError(
            f"step_size={type(method.step_size).__name__} follows the delay of one gradient, but "
            f"gather={type(method.gather).__name__} makes one update of several; "
            "use step_size=Scheduled() or gather=Each()"
        )
    mine = {name for name, (slot, state) in owners.items() if slot == "update" and state.kind == "per_worker"}
    if mine:
        raise MethodError(
            f"update={type(method.update).__name__} keeps {sorted(mine)} per worker, but "
            f"gather={type(method.gather).__name__} makes one update of several workers' gradients; use gather=Each()"
        )
