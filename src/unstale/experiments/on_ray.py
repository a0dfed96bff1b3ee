"""Runs on actors of a Ray cluster, whose machines need not share a disk: what a run leaves comes back as files."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from unstale.engines.live.ray.cluster import Cluster, needed
from unstale.errors import RunError
from unstale.experiments import worker
from unstale.experiments.hands import Lane
from unstale.experiments.outline import Trial

__all__ = ["OnRay", "Runner", "on_ray"]


class Runner:
    """An actor that carries out one trial after the other. ``payload``: as of `worker.packed`, in the object store."""

    def __init__(self, payload: Any) -> None:
        import torch

        torch.set_num_threads(1)
        self._payload = payload

    def hello(self) -> str:
        """The first answer of an actor that has started."""
        return "ready"

    def work(self, trial: Trial, there: worker.Files) -> tuple[worker.Outcome, worker.Files]:
        """What came of it, and the files of its runs; ``there``: those of the runs of this trial that are done."""
        with tempfile.TemporaryDirectory(prefix="unstale-") as folder:

            @cache
            def load() -> worker.Runs:
                runs = replace(self._runs, store=replace(self._runs.store, folder=Path(folder)))
                runs.take(trial, there)
                return runs

            outcome = worker.attempt(load, trial)
            return outcome, load().files(trial) if outcome[0] == "run" else {}

    @cached_property
    def _runs(self) -> worker.Runs:
        loaded = pickle.loads(memoryview(self._payload))
        assert isinstance(loaded, worker.Runs)
        return loaded


@contextmanager
def on_ray(address: str | None, count: int | None, most: int, device: str) -> Iterator[OnRay]:
    """A cluster, and how much of it there is to do with."""
    cluster = Cluster(address)
    try:
        resources = needed(None, local=False, device=device)
        there = cluster.ray.cluster_resources()
        room = min(int(there.get(name, 0) // amount) for name, amount in resources.items())
        yield OnRay(cluster, max(1, min(count or room, most)), resources)
    finally:
        cluster.close()


@dataclass(frozen=True)
class OnRay:
    """An actor a lane. Where one dies, as with its machine, its run begins anew on another."""

    cluster: Cluster
    count: int
    resources: Mapping[str, float]
    alone: bool = False
    tries: int = 3

    @contextmanager
    def lanes(self, runs: worker.Runs) -> Iterator[Callable[[], Lane]]:
        """See `Hands`."""
        import cloudpickle

        payload = self.cluster.put(worker.packed(runs, cloudpickle.dumps))
        opened: list[_Lane] = []

        def open_() -> Lane:
            actor = self.cluster.actor(Runner, self.resources, payload)
            opened.append(_Lane(actor, runs, actor.hello.remote().future(), opened))
            return opened[-1]

        try:
            yield open_
        finally:
            for lane in opened:
                self.cluster.kill(lane.actor)


@dataclass(frozen=True, eq=False)
class _Lane:
    actor: Any
    runs: worker.Runs
    hello: Future[str]
    all: list[_Lane]
    death: str = "its actor died (killed, or out of memory), or its machine was lost"

    @property
    def worked(self) -> bool:
        """Whether it ever started."""
        return self.hello.done() and self.hello.exception() is None

    def give(self, trial: Trial) -> Future[Any]:
        """See `Lane`."""
        future: Future[Any] = self.actor.work.remote(trial, self.runs.files(trial)).future()
        return future

    def outcome(self, trial: Trial, future: Future[Any]) -> worker.Outcome | None:
        """See `Lane`."""
        import ray

        try:
            outcome, files = future.result()
        except ray.exceptions.RayTaskError as error:
            return "unusable", f"an actor failed ({str(error).strip().splitlines()[-1]})"
        except ray.exceptions.RayError as error:
            if not any(lane.worked for lane in self.all):
                reason = " ".join(str(error).split())
                raise RunError(f"no actor of the cluster could be started; the first one: {reason}") from error
            return None
        self.runs.take(trial, files)
        return outcome  # type: ignore[no-any-return]
