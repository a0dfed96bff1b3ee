"""As much of Ray as the engine uses, in threads: actors do one call after the other, and what passes is pickled."""

from __future__ import annotations

import pickle
import types
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cloudpickle

__all__ = ["FakeRay"]


class RayError(Exception):
    pass


class ActorDiedError(RayError):
    pass


class RayTaskError(RayError):
    pass


class Ref:
    def __init__(self, done: Future[Any], which: int | None = None) -> None:
        self._done, self._which = done, which

    def get(self) -> Any:
        """Through the object store, from which arrays come read-only."""
        buffers: list[pickle.PickleBuffer] = []
        value = self._done.result() if self._which is None else self._done.result()[self._which]
        packed = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        return pickle.loads(packed, buffers=[buffer.raw().tobytes() for buffer in buffers])

    def future(self) -> Future[Any]:
        answer: Future[Any] = Future()

        def pass_on(done: Future[Any]) -> None:
            try:
                answer.set_result(self.get())
            except BaseException as error:
                answer.set_exception(error)

        self._done.add_done_callback(pass_on)
        return answer


class Actor:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._dead: BaseException | None = None
        self._self: Any = None
        self._thread.submit(self._make, make)

    def __reduce__(self) -> Any:
        return _actor, (_ACTORS.index(self),)

    def _make(self, make: Callable[[], Any]) -> None:
        try:
            self._self = make()
        except Exception as error:
            self._dead = error

    def __getattr__(self, name: str) -> Any:
        return Call(self, name)

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        if self._dead is None:
            given = [a.get() if isinstance(a, Ref) else Ref(_done(a)).get() for a in arguments]
            result = getattr(self._self, name)(*given)
        if self._dead is not None:
            raise ActorDiedError(f"The actor died: {self._dead}")
        return result

    def kill(self) -> None:
        self._dead = self._dead or RayError("it was killed")
        self._thread.shutdown(wait=False)


_ACTORS: list[Actor] = []


def _actor(number: int) -> Actor:
    return _ACTORS[number]


class Call:
    def __init__(self, actor: Actor, name: str, returns: int = 1) -> None:
        self._actor, self._name, self._returns = actor, name, returns

    def options(self, *, num_returns: int) -> Call:
        return Call(self._actor, self._name, num_returns)

    def remote(self, *arguments: Any) -> Any:
        try:
            done = self._actor._thread.submit(self._actor.call, self._name, arguments)
        except RuntimeError:
            done = Future()
            done.set_exception(ActorDiedError("The actor died: it was killed"))
        return Ref(done) if self._returns == 1 else [Ref(done, n) for n in range(self._returns)]


class FakeRay(types.ModuleType):
    """In the place of the module, in ``sys.modules``."""

    exceptions = types.SimpleNamespace(RayError=RayError, ActorDiedError=ActorDiedError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        super().__init__("ray")
        self.started: dict[str, Any] | None = None
        self.asked: list[dict[str, Any]] = []

        self.rooms: list[Room] = []
        self.space = 10**6
        strategies = types.SimpleNamespace(PlacementGroupSchedulingStrategy=lambda room: room)
        self.util = types.SimpleNamespace(
            placement_group=self._room, remove_placement_group=self._no_room, scheduling_strategies=strategies
        )

    def _room(self, bundles: list[dict[str, float]]) -> Room:
        self.rooms.append(Room(bundles))
        self.grow(0)
        return self.rooms[-1]

    def _no_room(self, room: Room) -> None:
        self.rooms.remove(room)
        self.grow(0)

    def grow(self, more: int) -> None:
        """There is space for so many rooms more."""
        self.space += more
        for room in self.rooms[: self.space]:
            room.place()

    def is_initialized(self) -> bool:
        return self.started is not None

    def init(self, **options: Any) -> None:
        if options["address"] not in ("local", "auto"):
            raise ConnectionError("nobody answers\nat all")
        self.started = options

    def shutdown(self) -> None:
        self.started = None

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def put(self, value: Any) -> Ref:
        return Ref(_done(value))

    def get(self, refs: Sequence[Ref]) -> list[Any]:
        return [ref.get() for ref in refs]

    def kill(self, actor: Actor, *, no_restart: bool) -> None:
        assert no_restart
        actor.kill()

    def remote(self, kind: type) -> Any:
        def options(**options: Any) -> Any:
            self.asked.append(options)

            def remote(*arguments: Any) -> Actor:
                given = [a.get() if isinstance(a, Ref) else Ref(_done(a)).get() for a in arguments]
                _ACTORS.append(Actor(lambda: kind(*given)))
                return _ACTORS[-1]

            return types.SimpleNamespace(remote=remote)

        return types.SimpleNamespace(options=options)


class Room:
    """A placement group."""

    def __init__(self, bundles: list[dict[str, float]]) -> None:
        assert all(amount > 0 for bundle in bundles for amount in bundle.values())
        self._placed: Future[Any] = Future()

    def place(self) -> None:
        if not self._placed.done():
            self._placed.set_result(True)

    def ready(self) -> Ref:
        return Ref(self._placed)


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
