"""One push, in the order that all methods share, composed from a method's parts.

    admit → correct → weight decay → penalise → gather → step size → update → statistics → predict the reply's point

Admission and the step size look at numbers only, so the server asks them itself. The rest are four programs, pure
functions of a block: `apply` (the push makes an update), `hold` (it waits in the gather), `flush` (what waited makes an
update, without a new gradient) and `reply` (only the point).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unstale.methods.block import Block, State, Writes

if TYPE_CHECKING:
    from unstale.methods.base import Method

__all__ = ["EXTREME", "Outcome", "Program", "Steps"]

# Elements with a larger P are counted: they mean under-flow, or that θ was moved from outside.
EXTREME = 1e6


@dataclass(frozen=True)
class Outcome:
    """What a program answers: new values by name (``sent`` is the reply's point), and element-wise terms to sum up."""

    writes: Writes
    sums: Mapping[str, Tensor] = field(default_factory=dict)


Program = Callable[[Block], Outcome]


class Steps:
    """The four programs of one method; ``measured`` adds the gap and the normalised gap to what they sum up."""

    def __init__(self, method: Method, *, measured: bool) -> None:
        self.method = method
        self.scale = method.scale
        self.decoupled = bool(getattr(method.update, "decoupled", False))
        self.measured = measured
        self.running = {name: state.sum_of for name, state in method.states.items() if state.sum_of is not None}
        self.needs = method.needs | ({"sent", "drift", "average_step"} if measured else frozenset())
        self.tracked = "average_step" in self.needs

    def apply(self, x: Block) -> Outcome:
        """The push makes an update."""
        g, writes, sums = self.contribution(x)
        total = self.method.gather.add(x, g)
        return Outcome({**writes, **self.update(x, self.method.gather.mean(x, total))}, sums)

    def apply_and_reply(self, x: Block) -> Outcome:
        """The same, and the point for the reply in the same pass."""
        done = self.apply(x)
        return Outcome({**done.writes, "sent": self.point(x.replaced(done.writes))}, done.sums)

    def hold(self, x: Block) -> Outcome:
        """The push waits in the gather."""
        g, writes, sums = self.contribution(x)
        return Outcome({**writes, "gathered": self.method.gather.add(x, g)}, sums)

    def flush(self, x: Block) -> Outcome:
        """What waited in the gather makes an update."""
        return Outcome(self.update(x, self.method.gather.mean(x, x.gathered)))

    def reply(self, x: Block) -> Outcome:
        """The point that a pull gets."""
        return Outcome({"sent": self.point(x)})

    def norms(self, x: Block) -> Outcome:
        """What the penalty takes norms of, for methods that penalise by layer or as a whole."""
        return Outcome({}, self.method.penalty.norms(self.derived(x)))

    def contribution(self, x: Block) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Correct, decay, penalise: what this gradient adds; the states it wrote; what it tells about itself."""
        x = self.derived(x)
        # In θ's dtype: the square of a half-precision gradient may not fit into its own.
        g, writes = self.method.correction.correct(x, x.grad.to(x.theta.dtype))
        if not self.decoupled:
            g = g + x.decay * x.theta
        divisor = torch.where(x.delay > 0, self.method.penalty.divisor(x), 1.0)
        return g / divisor, dict(writes), self.telling(x, divisor)

    def update(self, x: Block, g: Tensor) -> dict[str, Tensor]:
        """Update, then statistics: the other order would divide by C ≈ ηε at first."""
        step = self.method.update.step(x, g)
        writes = {**step.writes, "theta": x.theta + step.change}
        writes |= self.sums(x, writes)
        if self.tracked:
            writes |= self.scale.observe(x, step)
        if "gathered" in x.__dict__:
            writes["gathered"] = torch.zeros_like(x.gathered)
        return writes

    def sums(self, x: Block, writes: Writes) -> dict[str, Tensor]:
        """S ← S + v_i − v_i(old) for each running sum of a per-worker state that was written: O(d), whatever N is."""
        changed = {name: addend for name, addend in self.running.items() if addend in writes}
        return {name: getattr(x, name) + writes[addend] - getattr(x, addend) for name, addend in changed.items()}

    @property
    def states(self) -> dict[str, State]:
        """Everything to be kept between pushes: the parts' states, and the scale's if it is in use."""
        return self.method.states | (getattr(self.scale, "state", {}) if self.tracked else {})

    def point(self, x: Block) -> Tensor:
        """Where the next gradient should be taken."""
        return self.method.predict.point(x)

    def derived(self, x: Block) -> Block:
        """The block with what the parts need and nobody keeps."""
        extra: dict[str, Tensor] = {}
        if "drift" in self.needs:
            extra["drift"] = x.theta - x.sent
        if "average_step" in self.needs:
            extra["average_step"] = self.scale.size(x)
        if "prediction" in self.needs:
            extra["prediction"] = self.point(x.replaced({"lr": x.lr_last}))
        return x.replaced(extra) if extra else x

    def telling(self, x: Block, divisor: Tensor) -> dict[str, Tensor]:
        """Element-wise terms of the receipt's figures."""
        sums = (
            {"penalty": divisor, "extreme": (divisor > EXTREME).to(x.theta.dtype)}
            if divisor.ndim
            else {"penalty": divisor}
        )
        sums["gradient"] = x.grad.to(x.theta.dtype)  # NaN or Inf in any element shows in the sum
        if self.measured:
            sums |= {"gap": x.drift * x.drift, "normalised_gap": x.drift.abs() / x.average_step}
        return sums
