"""Ray itself: a cluster to join, or one to start on this machine and to end with the run."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from unstale.errors import ArgumentError, MissingPackageError

__all__ = ["Cluster", "needed", "when_done"]

_OWN_OPTIONS = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}

_ANSWERS = 5.0  # seconds that a cluster has to take a connection


class Cluster:
    """The cluster that this process is connected to; else that at ``address``; else a local one, which is started.

    A local one that we start asks for a token, unless ``RAY_AUTH_MODE`` says otherwise, and has no dashboard. A
    connection that we made ends when all who use it have closed theirs. what: how errors call the address; needs: who
    needs Ray.

    Raises `MissingPackageError` without Ray, `ArgumentError` for an address where no cluster answers.
    """

    _users: ClassVar[weakref.WeakSet[Cluster]] = weakref.WeakSet()
    _folder: ClassVar[tempfile.TemporaryDirectory[str] | None] = None
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, address: str | None, *, what: str = "address", needs: str = "engine='ray'") -> None:
        self.ray = _ray(ours=address is None, needs=needs)
        self.local = False
        with self._lock:
            if not self.ray.is_initialized():
                self._users.clear()
                self._join(address, what)
                self._users.add(self)
            elif self._users:
                self._users.add(self)

    @classmethod
    def found(cls, needs: str) -> Cluster:
        """That of ``RAY_ADDRESS``, or that this machine belongs to; none is started."""
        named = os.environ.get("RAY_ADDRESS")
        return cls(named or "auto", what="RAY_ADDRESS" if named else "the address", needs=needs)

    def _join(self, address: str | None, what: str) -> None:
        self.local = address is None
        options: dict[str, Any] = {}
        if self.local:
            # Ray leaves its logs behind.
            folder = tempfile.TemporaryDirectory(prefix="unstale-ray-", ignore_cleanup_errors=True)
            Cluster._folder, options = folder, {"include_dashboard": False, "_temp_dir": folder.name}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            _check_answers(address)
            # "local", for without an address Ray would look for one in its environment.
            self.ray.init(address=address or "local", logging_level=logging.ERROR, **options)
        except (OSError, ValueError, RuntimeError) as error:
            if self.local:
                raise
            raise ArgumentError(
                f"{what} must be that of a running Ray cluster, or 'auto', got {address!r} ({_first_line(error)}); "
                "start one with `ray start --head`"
            ) from error
        if threading.current_thread() is threading.main_thread():
            # Ray's own would end this process; a run is ended in order.
            signal.signal(signal.SIGTERM, handler)

    def check(self, resources: Mapping[str, float]) -> None:
        """Raises `ArgumentError` for what no worker can ever have here: a cluster that we started does not grow."""
        if not self.local:
            return
        there = self.ray.cluster_resources()
        for name, amount in resources.items():
            has = there.get(name, 0)
            if amount > has:
                raise ArgumentError(
                    f"resources_per_worker must be what this machine has, {has:g} {name}, got {amount:g}; ask for "
                    "less, or name the address of a cluster that has more"
                )

    def room(self, resources: Mapping[str, float]) -> Any:
        """A placement group of its own for an actor that asks for resources; None for one that asks for none."""
        wanted = {name: amount for name, amount in resources.items() if amount}
        return self.ray.util.placement_group([wanted]) if wanted else None

    def actor(
        self,
        kind: type,
        resources: Mapping[str, float],
        *arguments: Any,
        room: Any = None,
        here: bool = False,
        **more: Any,
    ) -> Any:
        """A new actor. Ray is not to restart it: what it would know is not what it should.

        room: see `room`; here: on this machine; more: Ray's options.
        """
        own = {_OWN_OPTIONS[name]: value for name, value in resources.items() if name in _OWN_OPTIONS}
        rest = {name: value for name, value in resources.items() if name not in _OWN_OPTIONS}
        options = {"num_cpus": 0, **own, "resources": rest, "max_restarts": 0, "max_task_retries": 0}
        strategies = self.ray.util.scheduling_strategies
        if room is not None:
            options["scheduling_strategy"] = strategies.PlacementGroupSchedulingStrategy(room)
        if here:
            node = self.ray.get_runtime_context().get_node_id()
            options["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        return self.ray.remote(kind).options(**options, **more).remote(*arguments)

    def put(self, content: bytes) -> Any:
        """Once for all who need it."""
        import numpy as np

        return self.ray.put(np.frombuffer(content, dtype=np.uint8))

    def kill(self, actor: Any, room: Any = None) -> None:
        """At once; its room is free again."""
        try:
            if actor is not None:
                self.ray.kill(actor, no_restart=True)
        finally:
            if room is not None:
                self.ray.util.remove_placement_group(room)

    def close(self) -> None:
        """Leave it, and end it if it is ours; once is enough."""
        with self._lock:
            if self not in self._users:
                return
            self._users.remove(self)
            if not self._users:
                self.ray.shutdown()
                if self._folder is not None:
                    self._folder.cleanup()
                    Cluster._folder = None


def when_done(ref: Any, heard: Callable[[Any, float], None]) -> None:
    """Have a call's future heard, in a thread of Ray's, and when that was, by this machine's monotonic clock."""
    ref.future().add_done_callback(lambda future: heard(future, time.monotonic()))


def needed(resources: object, *, local: bool, device: str) -> dict[str, float]:
    """What each worker asks the cluster for. One machine's workers share its cores, so there they ask for none.

    Raises `ArgumentError` if ``resources`` is no mapping from names to amounts.
    """
    if resources is None:
        return ({} if local else {"CPU": 1.0}) | ({"GPU": 1.0} if device.startswith("cuda") else {})
    amounts: dict[Any, Any] = dict(resources) if isinstance(resources, Mapping) else {"": None}
    for name, amount in amounts.items():
        number = isinstance(amount, int | float) and not isinstance(amount, bool) and 0 <= amount < float("inf")
        if not isinstance(name, str) or not name or not number:
            raise ArgumentError(
                "resources_per_worker must be a mapping from Ray's resources to amounts of at least 0, got "
                f"{resources!r}; pass {{'CPU': 1}}, say"
            )
    return amounts


def _ray(*, ours: bool, needs: str) -> Any:
    """Ray, told before it is imported to phone nobody, and to ask for a token where we start it."""
    loaded = sys.modules.get("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ours and not (loaded and loaded.is_initialized()):
        # Once it is imported it has read this, and a change would set it at odds with its own processes.
        mode = os.environ.get("RAY_AUTH_MODE", "token") if loaded else os.environ.setdefault("RAY_AUTH_MODE", "token")
        kept = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ) or (Path.home() / ".ray/auth_token").exists()
        if mode == "token" and not kept:
            # One of our own need not be written to anybody's home.
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    try:
        import ray
    except ImportError as error:
        raise MissingPackageError(needs, "ray", "ray") from error
    return ray


def _check_answers(address: str | None) -> None:
    """Ray itself tries for more than a minute to reach a cluster that is not there, and hears no signal meanwhile."""
    host, _, port = (address or "").rpartition(":")
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWERS).close()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
