"""The ways of computing gradients, as data: what is chosen once for a run and stored with it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from unstale import checks
from unstale.errors import ArgumentError, UnknownNameError
from unstale.methods.catalogue import parse

__all__ = ["AUTO", "Strategy", "strategy"]

AUTO = "auto"
Way = Literal["sequential", "threads", "batched"]


@dataclass(frozen=True)
class Strategy:
    """How outstanding gradients are computed.

    way: "sequential" (the reference), "threads" (one by one in several threads), or "batched" (``lanes`` tickets as one
    computation, in each of ``threads`` threads). compiled: by ``torch.compile``. graphs: batched ones as CUDA graphs.
    """

    way: Way = "sequential"
    lanes: int = 1
    threads: int = 1
    compiled: bool = False
    graphs: bool = False

    def __post_init__(self) -> None:
        if self.way not in get_args(Way):
            raise UnknownNameError("strategy", self.way, [AUTO, *get_args(Way)])
        checks.whole("threads", self.threads, 1)
        checks.whole("lanes", self.lanes, 1)
        checks.truth("compiled", self.compiled)
        checks.truth("graphs", self.graphs)
        if self.graphs and (self.way != "batched" or self.compiled):
            raise ArgumentError(f"graphs belong to strategy 'batched', not compiled, got {self}")
        if self.way != "batched" and self.lanes > 1:
            raise ArgumentError(f"lanes belong to strategy 'batched', got lanes={self.lanes} with {self.way!r}")
        if self.way == "sequential" and self.threads > 1:
            raise ArgumentError(f"strategy 'sequential' has one thread, got threads={self.threads}; use 'threads'")

    @property
    def width(self) -> int:
        """Tickets that are computed at the same time."""
        return self.lanes * self.threads

    def __str__(self) -> str:
        default = Strategy()
        told = {name: getattr(self, name) for name in OPTIONS}
        written = ", ".join(f"{name}={value}" for name, value in told.items() if value != getattr(default, name))
        return f"{self.way}({written})" if written else self.way


OPTIONS = [field.name for field in fields(Strategy) if field.name != "way"]
_USUAL: dict[str, dict[str, int]] = {"threads": {"threads": 2}, "batched": {"lanes": 8}}


def strategy(given: str | Strategy) -> Strategy | None:
    """A `Strategy`, or one by name: ``"threads"``, ``"batched(lanes=16, threads=2)"``; None for ``"auto"``.

    Raises `UnknownNameError` or `ArgumentError`.
    """
    if isinstance(given, Strategy):
        return given
    if not isinstance(given, str):
        raise ArgumentError(f"strategy must be a name or a Strategy, got {given!r}")
    way, arguments = parse(given)
    if way == AUTO and not arguments:
        return None
    for name in sorted(set(arguments) - set(OPTIONS)):
        raise ArgumentError(f"strategy takes {', '.join(OPTIONS[:-1])} and {OPTIONS[-1]}, got {name!r} in {given!r}")
    return Strategy(way, **{**_USUAL.get(way, {}), **arguments})  # type: ignore[arg-type]
