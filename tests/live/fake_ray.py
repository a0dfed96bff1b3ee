"""As much of Ray as we use, in threads: actors do one call after the other, or await them; what passes is pickled."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pickle
import threading
import types
from collections.abc import Callable, Sequence
from concurrent import futures
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
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

    def __reduce__(self) -> Any:
        _REFS[id(self)] = self
        return _ref, (id(self),)

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
        self._waiting: set[Future[Any]] = set()
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

    def submit(self, name: str, arguments: Sequence[Any]) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            self._thread.submit(self._answer, done, name, arguments)
        except RuntimeError:
            done.set_exception(ActorDiedError("The actor died: it was killed"))
        return done

    def _answer(self, done: Future[Any], name: str, arguments: Sequence[Any]) -> None:
        try:
            result = self.call(name, arguments)
        except BaseException as error:
            done.set_exception(error)
        else:
            if inspect.iscoroutine(result):
                self._waiting.add(done)
                asyncio.run_coroutine_threadsafe(self._await(done, result), _loop())
            else:
                done.set_result(result)

    async def _await(self, done: Future[Any], result: Any) -> None:
        value = await result
        self._waiting.discard(done)
        with contextlib.suppress(InvalidStateError):
            done.set_result(value)

    def kill(self) -> None:
        self._dead = self._dead or RayError("it was killed")
        self._thread.shutdown(wait=False)
        for done in list(self._waiting):
            with contextlib.suppress(InvalidStateError):
                done.set_exception(ActorDiedError(f"The actor died: {self._dead}"))

    @property
    def dead(self) -> bool:
        return self._dead is not None


_ACTORS: list[Actor] = []
_REFS: dict[int, Ref] = {}
_LOOPS: list[asyncio.AbstractEventLoop] = []
_LOOKING = threading.Lock()


def _loop() -> asyncio.AbstractEventLoop:
    """Where all that is awaited is."""
    with _LOOKING:
        if not _LOOPS:
            _LOOPS.append(asyncio.new_event_loop())
            threading.Thread(target=_LOOPS[0].run_forever, daemon=True).start()
        return _LOOPS[0]


def _ref(number: int) -> Ref:
    return _REFS[number]


def _actor(number: int) -> Actor:
    return _ACTORS[number]


class Call:
    def __init__(self, actor: Actor, name: str, returns: int = 1) -> None:
        self._actor, self._name, self._returns = actor, name, returns

    def options(self, *, num_returns: int) -> Call:
        return Call(self._actor, self._name, num_returns)

    def remote(self, *arguments: Any) -> Any:
        done = self._actor.submit(self._name, arguments)
        return Ref(done) if self._returns == 1 else [Ref(done, n) for n in range(self._returns)]


class FakeRay(types.ModuleType):
    """In the place of the module, in ``sys.modules``."""

    exceptions = types.SimpleNamespace(RayError=RayError, ActorDiedError=ActorDiedError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        super().__init__("ray")
        self.started: dict[str, Any] | None = None
        self.asked: list[dict[str, Any]] = []
        self.actors: list[Actor] = []
        self.named: dict[tuple[str, str], Actor] = {}
        self.rooms: list[Room] = []
        self.space = 10**6
        strategies = types.SimpleNamespace(
            PlacementGroupSchedulingStrategy=lambda room: room,
            NodeAffinitySchedulingStrategy=lambda node, soft: (node, soft),
        )
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

    def get(self, refs: Ref | Sequence[Ref]) -> Any:
        return refs.get() if isinstance(refs, Ref) else [ref.get() for ref in refs]

    def wait(self, refs: Sequence[Ref], *, num_returns: int, timeout: float | None = None) -> Any:
        when = futures.FIRST_COMPLETED if num_returns == 1 else futures.ALL_COMPLETED
        futures.wait([ref._done for ref in refs], timeout, when)
        return [ref for ref in refs if ref._done.done()], [ref for ref in refs if not ref._done.done()]

    def get_runtime_context(self) -> Any:
        return types.SimpleNamespace(get_node_id=lambda: "this one")

    def get_actor(self, name: str, namespace: str) -> Actor:
        actor = self.named.get((namespace, name))
        if actor is None or actor.dead:
            raise ValueError(f"no actor {name}")
        return actor

    def kill(self, actor: Actor, *, no_restart: bool) -> None:
        assert no_restart
        actor.kill()

    def remote(self, kind: type) -> Any:
        def options(**options: Any) -> Any:
            self.asked.append(options)

            def remote(*arguments: Any) -> Actor:
                name = options.get("namespace", ""), options.get("name", "")
                if name in self.named and not self.named[name].dead:
                    raise ValueError(f"{name} is taken")
                given = [a.get() if isinstance(a, Ref) else Ref(_done(a)).get() for a in arguments]
                _ACTORS.append(Actor(lambda: kind(*given)))
                if all(name):
                    self.named[name] = _ACTORS[-1]
                self.actors.append(_ACTORS[-1])
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
