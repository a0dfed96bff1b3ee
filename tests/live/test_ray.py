"""Actors of a Ray cluster: as processes are, the simulator to the bit, and replayed to the bit when some die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import unstale
from tests.cli.run import ENVIRONMENT, start
from tests.engines.problems import blobs, equal, normed, trained
from tests.live.test_processes import SMALL, At, plan
from unstale.clocks import Gamma
from unstale.engines import Plan
from unstale.engines.live.ray.arrays import boxed, opened
from unstale.engines.live.ray.cluster import needed
from unstale.engines.live.ray.fleet import RayFleet
from unstale.engines.replay import repeat
from unstale.errors import ArgumentError, MissingPackageError, RunError
from unstale.methods import Method, get

# Ray reads them when it is imported. A busy machine takes longer than its 60 seconds, and has nothing left for workers
# that are nice to all others.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")
os.environ.setdefault("RAY_worker_niceness", "0")
ray = pytest.importorskip("ray")
pytestmark = pytest.mark.ray
PACE = Gamma(mean=0.02, cv=0.5)


def nodes(tries: int = 3) -> Any:
    """Two of them, on this machine. Ray gives each half a minute to start, which a loaded machine may not have."""
    from ray.cluster_utils import Cluster

    head: dict[str, Any] = {"num_cpus": 4, "resources": {"slot": 2}, "include_dashboard": False}
    for _ in range(tries):
        made = Cluster()
        try:
            made.add_node(**head)
            made.add_node(num_cpus=4)
        except Exception as error:  # Ray raises just that
            made.shutdown()  # type: ignore[no-untyped-call]
            reason = str(error)
        else:
            return made
    return pytest.skip(f"Ray does not start here, tried {tries} times: {reason}")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Ray, on two nodes."""
    made = nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


def run(method: str | Method, workers: int, at: At | None = None, **changes: Any) -> unstale.Run:
    settings = {"task": blobs(), **SMALL, **changes}
    task = settings.pop("task")
    live = unstale.launch(task, method, workers, engine="ray", callbacks=[] if at is None else [at], **settings)
    if at is not None:
        at.live = live
    return live.result(300)


def told(real: unstale.Run, name: str) -> list[Any]:
    """Of each worker."""
    members: Any = real.members
    return [member[name] for member in members]


def ray_fleet(live: unstale.LiveRun) -> RayFleet:
    fleet = live._conductor.fleet
    assert isinstance(fleet, RayFleet)
    return fleet


def kill(live: unstale.LiveRun, worker: int) -> None:
    os.kill(ray_fleet(live).process(worker), signal.SIGKILL)


class Kept(RayFleet):
    """Its actors are set up anew for the next run, for to start one takes seconds."""

    actors: list[Any] = []

    def _actor(self, room: Any, *arguments: Any) -> Any:
        if len(self.actors) <= arguments[1]:
            self.actors.append(super()._actor(None, *arguments))
        actor = self.actors[arguments[1]]
        plan, *others = arguments
        actor.__ray_call__.remote(lambda self, plan: self.__init__(plan, *others), plan)
        return actor

    def kill(self, worker: int) -> None:
        member = self._members.pop(worker, None)
        if member is not None:
            self.cluster.kill(None, member.room)


@pytest.fixture
def kept(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unstale.engines.live.ray.fleet.RayFleet", Kept)


@pytest.mark.parametrize("name", ["dana_ga", "sync"])
def test_one_actor_is_the_simulator(kept: None, name: str) -> None:
    real = run(name, 1)
    simulated = trained(name, 1, strategy="sequential", **SMALL)
    assert all(torch.equal(real.params[key], value) for key, value in simulated.params.items())
    assert real.history["loss"].equals(simulated.history["loss"])


@pytest.mark.parametrize("name", ["asgd", "ga", "dana_ga", "ga(per=layer)", "sync", "fedbuff", "ga_adam"])
def test_several_are_replayed_to_the_bit(kept: None, name: str) -> None:
    """Also a model with BatchNorm, whose statistics travel."""
    real = run(name, 2, task=blobs(normed))
    again = Plan(task=blobs(normed), method=get(name), workers=2, **SMALL)
    assert real.events is not None
    assert equal(real, repeat(again, real.events))


def test_a_killed_actor_is_started_again(cluster: Any) -> None:
    at = At({5}, kill)
    real = run("dana_ga", 2, at, epochs=10, pace=PACE)
    assert "ActorDiedError" in at.incidents[0][1]
    assert sum(told(real, "restarts")) == 1
    assert real.events is not None
    assert equal(real, repeat(plan("dana_ga", 2, epochs=10), real.events))


def test_what_a_worker_raises_is_told(cluster: Any) -> None:
    """With its traceback; then there is nobody left."""
    with pytest.raises(RunError, match="no such luck"):
        run("asgd", 1, task=blobs(_unlucky), patience=unstale.Patience(max_restarts=0))


def _unlucky() -> torch.nn.Module:
    if ray.get_runtime_context().get_actor_id():
        raise RuntimeError("no such luck")
    return torch.nn.Linear(4, 3)


def test_a_node_is_lost_and_training_goes_on(cluster: Any) -> None:
    """With a barrier, so that all three are there before, and none is waited for after."""
    node = cluster.add_node(num_cpus=0, resources={"slot": 1})

    def lose(live: unstale.LiveRun, worker: int) -> None:
        processes = [ray_fleet(live).process(n) for n in range(3)]
        cluster.remove_node(node, allow_graceful=False)
        end = time.monotonic() + 90
        while all(map(alive, processes)) and time.monotonic() < end:
            time.sleep(0.05)

    patience = unstale.Patience(max_restarts=0, floor=60.0)
    real = run("sync", 3, At({6}, lose), resources_per_worker={"slot": 1}, patience=patience)
    assert told(real, "state").count("gone") == 1
    assert real.status == "finished"
    assert real.events is not None
    assert equal(real, repeat(plan("sync", 3), real.events))


@pytest.mark.slow
def test_a_node_comes_and_a_worker_that_waited_for_it_joins(cluster: Any) -> None:
    """With a barrier, at which nobody waits for it before."""
    absent = threading.Event()

    class Grow(At):
        def on_push(self, row: Any) -> None:
            super().on_push(row)
            if row["worker"] == 2:
                raise unstale.StopRun

    def grow(live: unstale.LiveRun, worker: int) -> None:
        assert live._conductor.members[2].state == "absent"
        absent.set()

    at = Grow({50}, grow)
    how: dict[str, Any] = {"patience": unstale.Patience(floor=2.0, starting=300.0), "pace": PACE}
    how |= {**SMALL, "resources_per_worker": {"slot": 1}, "epochs": 10**4}
    at.live = unstale.launch(blobs(), "sync", 3, engine="ray", callbacks=[at], **how)
    assert absent.wait(120)
    node = cluster.add_node(num_cpus=0, resources={"slot": 1})  # only a main thread can
    real = at.live.result(300)
    cluster.remove_node(node)
    assert real.status == "stopped"
    assert told(real, "restarts") == [0, 0, 0]
    assert real.events is not None
    assert equal(real, repeat(plan("sync", 3, epochs=10**4), real.events))


def alive(process: int) -> bool:
    """And not only waiting to be buried."""
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text("ascii", "replace")


def test_two_servers_and_a_killed_actor_are_replayed_to_the_bit(cluster: Any) -> None:
    """By one server: the parameters are the same however they are split."""
    at = At({5}, kill)
    settings: dict[str, Any] = {"epochs": 6, "executor": "blocks"}
    real = run("dana_ga", 2, at, task=blobs(normed), servers=2, pace=PACE, **settings)
    assert at.incidents
    assert real.events is not None
    again = repeat(Plan(task=blobs(normed), method=get("dana_ga"), workers=2, **{**SMALL, **settings}), real.events)
    assert all(torch.equal(real.params[name], value) for name, value in again.params.items())


@pytest.mark.slow
def test_a_server_that_dies_ends_the_run(cluster: Any) -> None:
    def end(live: unstale.LiveRun, worker: int) -> None:
        ray_fleet(live).cluster.kill(ray_fleet(live)._places[1].server)

    with pytest.raises(RunError, match="a server of 2 is lost"):
        run("asgd", 1, At({3}, end), servers=2, epochs=20)


CONNECTING = """
import os, sys, time
import torch, unstale

model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2))
batches = []
try:
    with unstale.connect("ray://digits", wait=60) as worker:
        print("connected", flush=True)
        while work := worker.pull(model):
            batches.append(work.batch)
            print("has", work.batch, flush=True)
            if "hang" in sys.argv:
                time.sleep(600)
            model(torch.full((3, 4), float(work.index))).sum().backward()
            worker.push(model)
except unstale.errors.RunError as error:
    print(error, flush=True)
    sys.exit(3)
torch.save({"model": model.state_dict(), "batches": batches}, sys.argv[1])
"""


def connecting(cluster: Any, *arguments: Any) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parents[2])
    environment = {
        **os.environ,
        "RAY_ADDRESS": cluster.address,
        "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
    }
    command = [sys.executable, "-c", CONNECTING, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_scripts_connect_and_one_is_killed(cluster: Any, tmp_path: Path) -> None:
    """The batch of one that is killed is done by another; a task of Ray is a script, too."""

    def task(wanted: int) -> int:
        model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 2))
        pushed = 0
        with unstale.connect("ray://digits") as worker:
            while pushed < wanted and worker.pull(model):
                model(torch.ones(3, 4)).sum().backward()
                pushed += worker.push(model).outcome == "applied"
        return pushed

    terms: dict[str, Any] = {"lr": 0.01, "epochs": 3, "batches_per_epoch": 10}
    with unstale.serve("dana", address="ray://digits", **terms) as served:
        dying = connecting(cluster, "hang")
        assert dying.stdout is not None
        assert [dying.stdout.readline() for _ in range(2)] == ["connected\n", "has 0\n"]
        with pytest.raises(ArgumentError, match="a server is at ray://digits already"):
            unstale.serve("dana", address="ray://digits", **terms)
        assert ray.get(ray.remote(task).remote(4), timeout=300) == 4
        dying.kill()
        dying.wait()
        dying.stdout.close()
        script = connecting(cluster, tmp_path / "end.pt")
        script.communicate(timeout=300)
        assert script.returncode == 0
        real = served.result(300)
    found = torch.load(tmp_path / "end.pt", weights_only=True)
    assert sorted(found["batches"]) == [0, *range(5, 30)]
    assert all(torch.equal(found["model"][name], value) for name, value in real.params.items())
    assert real.events is not None
    assert sorted(real.events.query("kind == 'depart'")["outcome"]) == ["failed", "left"]


@pytest.mark.slow
def test_scripts_are_told_when_their_server_is_killed(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "RAY_ADDRESS", cluster.address)
    server = start("serve", "--address", "ray://digits", "--workers", "2")
    assert server.stderr is not None
    assert server.stderr.readline() == "waiting for scripts at ray://digits\n"
    script = connecting(cluster)
    assert script.stdout is not None
    assert script.stdout.readline() == "connected\n"
    time.sleep(1)  # it waits for another one
    server.kill()
    server.communicate()
    said, _ = script.communicate(timeout=300)
    assert script.returncode == 3
    assert "the server at ray://digits is gone" in said


def test_what_cannot_be_split_is_refused_before_anything_starts() -> None:
    with pytest.raises(ArgumentError, match="servers must be 1 for method 'ga'"):
        unstale.launch(blobs(), "ga(per=model)", 1, engine="ray", servers=2)


def test_what_is_for_ray_is_refused_elsewhere() -> None:
    given: dict[str, Any] = {"address": "auto", "servers": 2, "resources_per_worker": {"CPU": 1}}
    for name in given:
        with pytest.raises(ArgumentError, match=f"{name} is for engine 'ray'"):
            unstale.launch(blobs(), "asgd", 1, **{name: given[name]})


@pytest.mark.parametrize("value", [{"CPU": -1}, {"CPU": "2"}, {1: 1}, "CPU"])
def test_resources_are_amounts_by_name(value: Any) -> None:
    with pytest.raises(ArgumentError, match="resources_per_worker must be a mapping"):
        needed(value, local=False, device="cpu")


def test_what_workers_ask_for() -> None:
    assert needed(None, local=False, device="cpu") == {"CPU": 1}
    assert needed(None, local=False, device="cuda") == {"CPU": 1, "GPU": 1}
    assert needed(None, local=True, device="cpu") == {}
    assert needed({"CPU": 2}, local=True, device="cuda") == {"CPU": 2}


def test_without_ray_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'unstale\[ray\]'"):
        unstale.launch(blobs(), "asgd", 1, engine="ray")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_tensors_travel(dtype: torch.dtype) -> None:
    for tensor in (torch.arange(6).to(dtype).view(2, 3), torch.empty(0, 3, dtype=dtype), torch.tensor(3).to(dtype)):
        box = boxed(tensor)
        box.content.flags.writeable = False
        assert torch.equal(opened(box), tensor)
        assert opened(box).dtype == dtype
