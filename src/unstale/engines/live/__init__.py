"""Training on real workers: processes on this machine, or actors on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unstale import checks
from unstale.clocks import Clock
from unstale.engines.live.conductor import Conductor
from unstale.engines.live.fleet import Fleet
from unstale.engines.live.launch import LiveRun, conducted
from unstale.engines.live.members import Patience
from unstale.engines.live.processes import Processes
from unstale.engines.live.ray import launch_ray
from unstale.errors import ArgumentError
from unstale.events import EventLog, event_log
from unstale.server import Server

if TYPE_CHECKING:
    from unstale.engines.arrange import Arranged

__all__ = ["Live", "LiveRun", "Patience", "conducted", "launch_processes", "launch_ray"]


@dataclass(frozen=True, kw_only=True)
class Live:
    """How real workers are run; none of it decides what a gradient is.

    patience: what is done about workers that fail. record: a folder for the log of events, written while the run goes
    on. threads: of torch, in each worker. devices: where workers compute, in turns (default: the server's kind).
    pace: the least time that a worker takes for each gradient, in seconds: workers that are slower, and unequal, on
    purpose.

    With engine="ray" only: address: of a running cluster, "auto" to find it, None for a local one, which ends with the
    run. servers: actors that the parameters are split over; 1: they stay with this process. resources_per_worker: what
    each worker asks the cluster for, such as ``{"CPU": 2, "GPU": 1}`` (default: one CPU; on a local cluster none).
    """

    patience: Patience = field(default_factory=Patience)
    record: str | Path | None = None
    threads: int = 1
    devices: Sequence[str] | None = None
    pace: Clock | None = None
    address: str | None = None
    servers: int = 1
    resources_per_worker: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        checks.whole("threads", self.threads, 1)
        checks.whole("servers", self.servers, 1)
        if self.address is not None and (not isinstance(self.address, str) or not self.address):
            raise ArgumentError(f"address must be that of a Ray cluster, 'auto' or None, got {self.address!r}")
        if not isinstance(self.patience, Patience):
            raise ArgumentError(f"patience must be a Patience, got {self.patience!r}; use unstale.Patience(…)")
        if self.pace is not None and not isinstance(self.pace, Clock):
            raise ArgumentError(f"pace must be a clock, such as unstale.clocks.Gamma(mean=0.05), got {self.pace!r}")

    def log(self, checkpoints: Path | None, resume: Path | None) -> EventLog:
        """See `event_log`."""
        return event_log(self.record, checkpoints, resume)

    def refuse(self, names: Iterable[str], what: str, engine: str) -> None:
        """Raise `ArgumentError` if one of these is given: it is for something else than ``engine``."""
        for name in names:
            if getattr(self, name) != getattr(Live(), name):
                raise ArgumentError(f"{name} is for {what}, but engine is {engine!r}; leave it out")

    def launched(
        self,
        engine: str,
        fleet: Callable[..., Fleet],
        what: Arranged,
        server: Callable[..., Server] = Server,
    ) -> LiveRun:
        """What is arranged has begun, or goes on, with that fleet."""
        log = self.log(None if what.checkpoints is None else Path(what.checkpoints.folder), what.resume)
        fleet = partial(fleet, threads=self.threads, devices=self.devices, pace=self.pace)
        conductor = Conductor(what.plan, fleet, self.patience, log, what.callbacks, engine=engine, server=server)
        return LiveRun(conductor, what.checkpoints, what.resume)


def launch_processes(what: Arranged) -> LiveRun:
    """Start what is arranged, or go on with it, on processes of this machine."""
    what.live.refuse(("address", "servers", "resources_per_worker"), "engine 'ray'", "processes")
    return what.live.launched("processes", Processes, what)
