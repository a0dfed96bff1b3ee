"""Server actors: each keeps and steps one slice of the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unstale.engines.live.ray.arrays import Boxed, boxed, opened
from unstale.engines.live.ray.cluster import Cluster
from unstale.errors import RunError
from unstale.shard import Shard

__all__ = ["RayShards", "ServerActor"]


class ServerActor:
    """A `Shard`, whose tensors come and go as arrays."""

    def __init__(self, arguments: Sequence[Any], params: Boxed) -> None:
        torch.set_num_threads(1)
        steps, layout, executor, memory = arguments
        self._shard = Shard(steps, layout, executor, memory, opened(params).clone())

    def stage(self, worker: int, number: int, gradient: Boxed) -> bool:
        """See `Shard`. The slice stays in the object store, where it is only read."""
        return self._shard.stage(worker, number, opened(gradient))

    def ask(self, name: str, arguments: Sequence[Any]) -> Any:
        """Call a method of the shard."""
        return _each(boxed, Tensor, getattr(self._shard, name)(*(_each(_copied, Boxed, a) for a in arguments)))

    def step(self, name: str, arguments: Sequence[Any]) -> tuple[dict[str, float], Boxed | None]:
        """`Shard.push` or `Shard.point`."""
        sums, point = getattr(self._shard, name)(*arguments)
        return sums, None if point is None else boxed(point)


class RayShards:
    """`Shards` that are actors of a cluster; each is made of the arguments of a `Shard`. Raises `RunError` if one dies.

    It is not restarted: it would come back without what it knew, and only a checkpoint has that.
    """

    def __init__(self, cluster: Cluster, arguments: Sequence[tuple[Any, ...]]) -> None:
        self._ray = cluster.ray
        own: Mapping[str, float] = {} if cluster.local else {"CPU": 1.0}
        self.actors = [cluster.actor(ServerActor, own, rest, boxed(params)) for *rest, params in arguments]

    def ask(self, name: str, arguments: Sequence[Sequence[Any]]) -> list[Any]:
        """See `Shards`."""
        given = ([_each(boxed, Tensor, a) for a in each] for each in arguments)
        refs = [actor.ask.remote(name, each) for actor, each in zip(self.actors, given, strict=True)]
        return [_each(_copied, Boxed, answer) for answer in self._got(refs)]

    def step(self, name: str, *arguments: Any) -> list[tuple[dict[str, float], Any]]:
        """See `Shards`. The points stay in the object store until a worker is given them."""
        refs = [actor.step.options(num_returns=2).remote(name, arguments) for actor in self.actors]
        sums = self._got([first for first, _ in refs])
        return [(told, point) for told, (_, point) in zip(sums, refs, strict=True)]

    def _got(self, refs: list[Any]) -> list[Any]:
        try:
            answers: list[Any] = self._ray.get(refs)
        except self._ray.exceptions.RayError as error:
            raise RunError(
                f"a server of {len(self.actors)} is lost, and its slice of the parameters with it "
                f"({type(error).__name__}: {str(error).strip().splitlines()[0]}); resume from the last checkpoint"
            ) from error
        return answers


def _copied(box: Boxed) -> Tensor:
    return opened(box).clone()


def _each(change: Any, kind: type, value: Any) -> Any:
    """``value`` with everything of a kind in it changed, in mappings, lists and tuples."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each(change, kind, item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_each(change, kind, item) for item in value)
    return value
