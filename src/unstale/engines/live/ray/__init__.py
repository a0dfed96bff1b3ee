"""Training on a Ray cluster. Nothing here imports Ray before it is asked to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstale.callbacks import Callback
from unstale.checkpoint import Checkpoints
from unstale.engines.base import Plan
from unstale.engines.live.launch import LiveRun
from unstale.server import Server

if TYPE_CHECKING:
    from unstale.engines.live import Live

__all__ = ["launch_ray"]


def launch_ray(
    plan: Plan,
    live: Live,
    callbacks: tuple[Callback, ...] = (),
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
) -> LiveRun:
    """Start ``plan``, or go on with it, on actors of a Ray cluster."""
    from unstale.engines.live.ray.cluster import Cluster, needed
    from unstale.engines.live.ray.fleet import RayFleet
    from unstale.engines.live.ray.servers import RayShards
    from unstale.sharded import ShardedServer, check_shards

    check_shards(plan.method, live.servers)
    cluster = Cluster(live.address)
    try:
        resources = needed(live.resources_per_worker, local=cluster.local, device=plan.device)
        how: dict[str, Any] = {"threads": live.threads, "devices": live.devices, "pace": live.pace}
        fleet = partial(RayFleet, cluster=cluster, resources=resources, **how)
        server: Callable[..., Server] = Server
        if live.servers > 1:
            server = partial(ShardedServer, shards=live.servers, make=partial(RayShards, cluster))
        return live.launched("ray", plan, fleet, callbacks, checkpoints, resume, server)
    except BaseException:
        cluster.close()
        raise
