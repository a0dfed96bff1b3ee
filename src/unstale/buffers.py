"""Model buffers, such as BatchNorm's running statistics, live at the server and travel with pulls and pushes.

A module's forward pass may update its buffers, so they depend on more than the ticket unless the server keeps them.
Each ticket carries zeroed running statistics; after the forward pass they hold this ticket's share b, which the server
folds in when the push is accepted: r ← (1 − m)^k·r + b, with k the passes counted by ``num_batches_tracked``. Any other
buffer goes out as the server has it and comes back as the last accepted push left it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from unstale import checks
from unstale.errors import ArgumentError

__all__ = ["Buffers", "Policy", "normalisations", "over_lanes"]

Policy = Literal["shared", "per-worker", "recalibrate"]
COUNT = "num_batches_tracked"
RUNNING = ("running_mean", "running_var")


class Buffers:
    """The server's copy of a module's buffers.

    policy: "shared" has one set of running statistics that every push is folded into; "per-worker" has one for each
    worker, and evaluates with their mean; "recalibrate" keeps none and leaves it to the engine to compute them at θ
    before each evaluation.
    """

    def __init__(self, module: nn.Module | None, policy: Policy = "shared") -> None:
        checks.choice("batch_norm", policy, get_args(Policy))
        self.policy = policy
        self._momenta = {} if module is None else normalisations(module)
        named = {} if module is None else {n: b.detach().clone() for n, b in module.named_buffers()}
        running = {f"{norm}{name}" for norm in self._momenta for name in (*RUNNING, COUNT)}
        self._plain = {name: value for name, value in named.items() if name not in running}
        self._initial = {name: value for name, value in named.items() if name in running}
        self._sets: dict[int, dict[str, Tensor]] = {}
        self._given: dict[int, dict[str, Tensor]] = {}

    def __bool__(self) -> bool:
        return bool(self._plain or self._initial)

    @property
    def has_running_statistics(self) -> bool:
        """Whether there is anything for the policy to decide."""
        return bool(self._momenta)

    def issue(self, worker: int) -> Mapping[str, Tensor]:
        """What a new ticket of ``worker`` carries: copies, for a forward pass may update them in place."""
        # Kept values are replaced when they change, never written to, so to remember them is to have a snapshot.
        self._given[worker] = dict(self._plain)
        return self.issued(worker)

    def issued(self, worker: int) -> Mapping[str, Tensor]:
        """The same again, as it was when the ticket was new."""
        return _Issued(self._given[worker], self._initial)

    def check(self, pushed: Mapping[str, Tensor] | None) -> None:
        """Refuse what `accept` could not take in: a buffer that is missing, or of another shape or dtype."""
        if pushed is None:
            if self._momenta and self.policy != "recalibrate":
                raise ArgumentError(
                    "buffers must come with the gradient of a model with BatchNorm, got none; push the module, or its "
                    "buffers, or choose batch_norm='recalibrate'"
                )
            return
        for name, value in {**self._plain, **self._initial}.items():
            if name not in pushed:
                raise ArgumentError(f"buffers must hold every buffer of the model, got none called {name!r}")
            got = pushed[name]
            if got.shape != value.shape or got.dtype != value.dtype or got.device != value.device:
                raise ArgumentError(
                    f"buffer {name!r} must be {value.dtype} of shape {tuple(value.shape)} on {value.device}, got "
                    f"{got.dtype} of shape {tuple(got.shape)} on {got.device}"
                )

    @torch.no_grad()
    def accept(self, worker: int, pushed: Mapping[str, Tensor]) -> None:
        """Fold in what came back with an accepted push, after `check`."""
        for name, value in self._plain.items():
            if not torch.equal(value, pushed[name]):
                self._plain[name] = pushed[name].detach().clone()
        if self._momenta and self.policy != "recalibrate":
            self._fold(self._of(worker), pushed)

    def _of(self, worker: int) -> dict[str, Tensor]:
        key = worker if self.policy == "per-worker" else 0
        if key not in self._sets:
            self._sets[key] = {name: value.clone() for name, value in self._initial.items()}
        return self._sets[key]

    def _fold(self, kept: dict[str, Tensor], pushed: Mapping[str, Tensor]) -> None:
        passes = torch.stack([pushed[f"{norm}{COUNT}"] for norm in self._momenta]).tolist()
        seen = [0] * len(passes)
        if None in self._momenta.values():
            seen = torch.stack([kept[f"{norm}{COUNT}"] for norm in self._momenta]).tolist()
        targets, shares, keep, take = [], [], [], []
        for (norm, momentum), k, n in zip(self._momenta.items(), passes, seen, strict=True):
            # momentum=None is a cumulative average: both sides weigh as many passes as they stand for.
            whole = max(n + k, 1)
            for name in RUNNING:
                targets.append(kept[f"{norm}{name}"])
                shares.append(pushed[f"{norm}{name}"])
                keep.append((whole - k) / whole if momentum is None else (1 - momentum) ** k)
                take.append(k / whole if momentum is None else 1.0)
        if any(k for k in passes):
            torch._foreach_mul_(targets, keep)
            torch._foreach_add_(targets, torch._foreach_mul(shares, take))
            counts = [kept[f"{norm}{COUNT}"] for norm in self._momenta]
            torch._foreach_add_(counts, [pushed[f"{norm}{COUNT}"] for norm in self._momenta])

    def current(self) -> dict[str, Tensor]:
        """What an evaluation of θ uses; under "recalibrate" the statistics are the initial ones."""
        if not self._sets:
            return {**self._plain, **self._initial}
        sets = [self._sets[key] for key in sorted(self._sets)]
        if len(sets) == 1:
            return {**self._plain, **sets[0]}
        mean = {n: torch.stack([s[n].double() for s in sets]).mean(0).to(sets[0][n].dtype) for n in self._initial}
        return {**self._plain, **mean}

    def forget(self, worker: int) -> None:
        """A worker left, and its own statistics with it, unless they are the only ones."""
        self._given.pop(worker, None)
        if self.policy == "per-worker" and len(self._sets) > 1:
            self._sets.pop(worker, None)

    def state_dict(self) -> dict[str, Any]:
        """Copies of all tensors."""
        sets = {str(key): kept for key, kept in self._sets.items()}
        # Most tickets have what the server has now.
        given = {
            str(worker): {name: value for name, value in plain.items() if value is not self._plain[name]}
            for worker, plain in self._given.items()
        }
        return copy.deepcopy({"policy": self.policy, "plain": self._plain, "sets": sets, "given": given})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over copies of a saved state, on this server's device."""
        like = {**self._plain, **self._initial}
        self._plain = {name: value.to(like[name].device, copy=True) for name, value in state["plain"].items()}

        def by_worker(saved: Mapping[str, Mapping[str, Tensor]]) -> dict[int, dict[str, Tensor]]:
            return {
                int(key): {name: value.to(like[name].device, copy=True) for name, value in kept.items()}
                for key, kept in saved.items()
            }

        self._sets = by_worker(state["sets"])
        self._given = {worker: {**self._plain, **kept} for worker, kept in by_worker(state["given"]).items()}


def over_lanes(issued: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The buffers of several tickets, (L, …) each."""
    first, lanes = issued[0], len(issued)
    running = first._running if isinstance(first, _Issued) else {}
    zeros = {name: value.new_zeros(lanes, *value.shape) for name, value in running.items()}
    return {name: zeros[name] if name in zeros else torch.stack([b[name] for b in issued]) for name in first}


class _Issued(Mapping[str, Tensor]):
    """A ticket's buffers, each made when it is first asked for: most are never."""

    def __init__(self, plain: Mapping[str, Tensor], running: Mapping[str, Tensor]) -> None:
        self._plain, self._running = plain, running
        self._made: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._made:
            self._made[name] = (
                self._plain[name].clone() if name in self._plain else torch.zeros_like(self._running[name])
            )
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._plain, *self._running])

    def __len__(self) -> int:
        return len(self._plain) + len(self._running)


def normalisations(module: nn.Module) -> dict[str, float | None]:
    """Momentum of every submodule that updates running statistics in training, by its prefix.

    One that the user froze (in eval mode inside a training module) reads its statistics, so it is not among them.
    """
    found: dict[str, float | None] = {}
    for name, sub in module.named_modules():
        tracks = getattr(sub, "track_running_stats", False) and getattr(sub, "running_mean", None) is not None
        if tracks and (sub.training or not module.training):
            momentum = getattr(sub, "momentum", None)
            found[f"{name}." if name else ""] = None if momentum is None else float(momentum)
    return found
