"""Training on a Ray cluster, and scripts that connect over one. Nothing here imports Ray before it is asked to."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unstale.engines.live.launch import LiveRun
from unstale.engines.live.scripts.answering import Callers
from unstale.engines.live.scripts.asking import Line
from unstale.server import Server

if TYPE_CHECKING:
    from unstale.engines.arrange import Arranged

__all__ = ["launch_ray", "ray_callers", "ray_line"]


def launch_ray(what: Arranged) -> LiveRun:
    """Start what is arranged, or go on with it, on actors of a Ray cluster."""
    from unstale.engines.live.ray.cluster import Cluster, needed
    from unstale.engines.live.ray.fleet import RayFleet
    from unstale.engines.live.ray.servers import RayShards
    from unstale.sharded import ShardedServer, check_shards

    plan, live = what.plan, what.live
    check_shards(plan.method, live.servers)
    cluster = Cluster(live.address)
    try:
        resources = needed(live.resources_per_worker, local=cluster.local, device=plan.device)
        cluster.check(resources)
        fleet = partial(RayFleet, cluster=cluster, resources=resources)
        server: Callable[..., Server] = Server
        if live.servers > 1:
            server = partial(ShardedServer, shards=live.servers, make=partial(RayShards, cluster))
        return live.launched("ray", fleet, what, server)
    except BaseException:
        cluster.close()
        raise


def ray_callers(address: str | Path | None) -> Callers:
    """Wait for scripts at ``ray://NAME``."""
    from unstale.engines.live.ray.callers import RayCallers

    return RayCallers(address)


def ray_line(address: str | Path | None, wait: float) -> Line:
    """Connect to the server at ``ray://NAME``, which may take ``wait`` seconds to start."""
    from unstale.engines.live.ray.line import RayLine

    return RayLine(address, wait)
