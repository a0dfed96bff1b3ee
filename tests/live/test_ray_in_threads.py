"""The Ray engine, on actors that are threads: every method that can be split, and deaths at exact moments."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import unstale
from tests.engines.problems import blobs, equal
from tests.live.fake_ray import FakeRay
from tests.live.test_connect import in_thread, until
from tests.live.test_processes import SMALL, At
from unstale import methods
from unstale.checkpoint import numbers
from unstale.cli import main
from unstale.clocks import Gamma
from unstale.engines import Plan
from unstale.engines.live.frames import Kind
from unstale.engines.live.ray.fleet import RayFleet
from unstale.engines.live.ray.line import RayLine
from unstale.engines.live.ray.seat import SERVER
from unstale.engines.replay import repeat
from unstale.errors import ArgumentError, MissingPackageError, RunError

WORKERS = 3


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("HOME", str(tmp_path))  # a token may be kept there
    for name in (
        "RAY_ADDRESS",
        "UNSTALE_ADDRESS",
        "RAY_AUTH_MODE",
        "RAY_AUTH_TOKEN",
        "RAY_AUTH_TOKEN_PATH",
        "RAY_USAGE_STATS_ENABLED",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return fake


def model() -> nn.Module:
    """With buffers, and without random numbers, which threads would share."""
    return nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def run(method: str, at: At | None = None, **changes: Any) -> unstale.Run:
    settings = {**SMALL, "executor": "blocks", "patience": unstale.Patience(back_off=0.0), **changes}
    callbacks = [] if at is None else [at]
    live = unstale.launch(blobs(model), method, WORKERS, engine="ray", callbacks=callbacks, **settings)
    if at is not None:
        at.live = live
    return live.result(300)


def replayed(method: str, real: unstale.Run, **changes: Any) -> unstale.Run:
    settings: dict[str, Any] = {**SMALL, "executor": "blocks", **changes}
    assert real.events is not None
    return repeat(Plan(task=blobs(model), method=methods.get(method), workers=WORKERS, **settings), real.events)


def same(one: unstale.Run, other: unstale.Run) -> bool:
    """The bits of the parameters; figures of a push are summed up in another order."""
    return all(torch.equal(one.params[name], other.params[name]) for name in one.params)


def fleet(live: unstale.LiveRun) -> RayFleet:
    found = live._conductor.fleet
    assert isinstance(found, RayFleet)
    return found


@pytest.mark.parametrize("name", methods.names())
def test_every_method_is_replayed_to_the_bit(name: str) -> None:
    real = run(name)
    assert equal(real, replayed(name, real))


@pytest.mark.parametrize("name", [n for n in methods.names() if methods.get(n).penalty.over == "element"])
def test_every_method_has_the_same_bits_on_two_servers(name: str) -> None:
    real = run(name, servers=2)
    assert same(real, replayed(name, real))


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("name", ["dana_ga", "sync", "fedbuff"])
def test_a_killed_worker_is_started_again(name: str, servers: int) -> None:
    at = At({5}, lambda live, worker: fleet(live).cluster.kill(fleet(live)._members[worker].actor))
    real = run(name, at, servers=servers)
    assert "ActorDiedError: The actor died: it was killed" in [reason for _, reason in at.incidents]
    assert same(real, replayed(name, real))


def test_a_server_that_dies_ends_the_run() -> None:
    at = At({3}, lambda live, worker: fleet(live).cluster.kill(fleet(live)._places[1].server))
    with pytest.raises(RunError, match=r"a server of 2 is lost.*it was killed.*resume from the last checkpoint"):
        run("asgd", at, servers=2)


@pytest.mark.parametrize("name", ["dana_ga", "sync", "ga_adam"])
def test_servers_are_restored_from_the_checkpoint(name: str, tmp_path: Path) -> None:
    """All of them, to what they were at one push, with new workers that have the old ones' tickets."""
    at = At({13}, lambda live, worker: fleet(live).cluster.kill(fleet(live)._places[1].server))
    with pytest.raises(RunError, match=r"a server of 2 is lost"):
        run(name, at, servers=2, checkpoints=unstale.Checkpoints(tmp_path, pushes=5))
    assert numbers(tmp_path)[-1] in (5, 10)
    real = run(name, servers=2, resume=tmp_path)
    assert real.status == "finished"
    assert real.history["push"].tolist() == list(range(len(real.history)))
    assert same(real, replayed(name, real))


@pytest.mark.parametrize("servers", [1, 2])
def test_what_is_not_finite_is_rejected_whole(servers: int) -> None:
    real = run("dana_ga", servers=servers, lr=1e30, on_nonfinite="reject")
    assert "rejected" in set(real.history["outcome"])
    assert same(real, replayed("dana_ga", real, lr=1e30, on_nonfinite="reject"))


def test_half_precision_travels() -> None:
    real = run("dana_ga", servers=2, dtype=torch.bfloat16)
    assert same(real, replayed("dana_ga", real, dtype=torch.bfloat16))


def test_a_local_cluster_is_ended_and_asks_for_a_token(ray: FakeRay) -> None:
    options: list[Any] = []
    run("asgd", At({1}, lambda live, worker: options.append(ray.started)))
    assert options[0]["address"] == "local"
    assert options[0]["include_dashboard"] is False
    assert not ray.is_initialized()
    assert not Path(options[0]["_temp_dir"]).exists()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_ray_restarts_nothing(ray: FakeRay) -> None:
    run("asgd", servers=2, address="auto", resources_per_worker={"CPU": 2, "fast": 1})
    assert {(asked["max_restarts"], asked["max_task_retries"]) for asked in ray.asked} == {(0, 0)}
    assert [(asked["num_cpus"], asked["resources"]) for asked in ray.asked] == [(1, {})] * 2 + [(2, {"fast": 1})] * 3


def test_a_connection_that_is_there_is_used_and_kept(ray: FakeRay) -> None:
    ray.init(address="auto")
    run("asgd")
    assert ray.started == {"address": "auto"}


def test_an_address_where_nobody_answers() -> None:
    with pytest.raises(ArgumentError, match=r"address must be .* got '127.0.0.1:9' \(.*refused\)"):
        run("asgd", address="127.0.0.1:9")


def test_more_servers_than_parameters() -> None:
    with pytest.raises(ArgumentError, match="servers must be at most the"):
        run("asgd", servers=1000)


def test_the_command_line(ray: FakeRay, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("--epochs", "0.2", "--batch-size", "64", "--task-option", "width=4")
    with pytest.raises(SystemExit) as ended:
        main(["train", "digits", "--engine", "ray", "-n", "2", "--servers", "2", "--address", "auto", *small])
    assert ended.value.code == 0
    assert "digits / mlp, dana_ga, N = 2" in capsys.readouterr().out
    assert len(ray.asked) == 4
    with pytest.raises(SystemExit) as ended:
        main(["train", "digits", "--servers", "2", *small])
    assert ended.value.code != 0
    assert "--servers is for real workers, but --engine is 'simulate'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("method", ["sync", "dana_ga"])
def test_training_goes_on_without_those_who_wait_for_room_and_takes_them_in_when_there_is_some(
    method: str, ray: FakeRay
) -> None:
    """As when an autoscaler brings machines."""
    ray.space = 2
    joined: list[int] = []

    def grow(live: unstale.LiveRun, worker: int) -> None:
        members = live._conductor.members
        assert [members[n].state for n in range(3)].count("absent") == 1
        assert live._conductor.stats()["alive"] == 2
        ray.grow(1)

    class Watch(At):
        def on_push(self, row: Any) -> None:
            super().on_push(row)
            joined.append(row["worker"])

    at = Watch({40}, grow)
    patience = unstale.Patience(back_off=0.0, floor=0.2)
    real = run(method, at, address="auto", patience=patience, epochs=60, pace=Gamma(mean=0.02))
    assert set(joined[:41]) == {0, 1}
    assert 2 in joined
    assert equal(real, replayed(method, real, epochs=60))
    assert not ray.rooms


def test_who_waits_for_room_goes_first_when_there_are_to_be_fewer(ray: FakeRay) -> None:
    """Whatever its number: the first one dies, and its room goes to the last, who waited for it."""
    ray.space = 2
    seen: list[set[int]] = []

    def swap(live: unstale.LiveRun, worker: int) -> None:
        members = live._conductor.members
        if not seen:
            live._conductor._lose(members[0], "it is made to")
            seen.append(set())
            at.pushes.update({*range(41, 2000)})
        elif members[0].state == "absent" and members[2].state == "busy":
            live._conductor.scale(2)
            seen.append({n for n, member in members.items() if member.state == "gone"})
            at.pushes.clear()

    at = At({40}, swap)
    patience = unstale.Patience(back_off=0.5, floor=0.2)
    run("dana_ga", at, address="auto", patience=patience, epochs=80, pace=Gamma(mean=0.02))
    assert seen == [set(), {0}]


def test_who_waited_for_room_waits_or_starts_again_when_the_run_goes_on(tmp_path: Path, ray: FakeRay) -> None:
    ray.space = 2
    how: dict[str, Any] = {"address": "auto", "patience": unstale.Patience(back_off=0.0, floor=0.2)}
    how |= {"pace": Gamma(mean=0.02), "epochs": 30}

    def fail(live: unstale.LiveRun, worker: int) -> None:
        assert live._conductor.members[2].state == "absent"
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        run("dana_ga", At({40}, fail), checkpoints=unstale.Checkpoints(tmp_path), **how)
    ray.space = 3
    real = run("dana_ga", resume=tmp_path, **how)
    assert 2 in set(real.history["worker"])
    assert equal(real, replayed("dana_ga", real, epochs=30))


def test_what_this_machine_can_never_give_is_refused(ray: FakeRay) -> None:
    with pytest.raises(ArgumentError, match=r"resources_per_worker must be what this machine has, 0 TPU, got 1"):
        run("asgd", resources_per_worker={"TPU": 1})
    assert not ray.is_initialized()


# Scripts that connect; tests/live/test_connect.py has what they share with those on the server's machine.


def pushed(worker: unstale.Worker, module: nn.Module) -> str:
    module(torch.ones(2, 4)).sum().backward()
    return worker.push(module).outcome


def test_a_script_that_dies_gives_its_batch_back(ray: FakeRay) -> None:
    with unstale.serve("dana", address="ray://", lr=0.1) as served, unstale.connect("ray://unstale") as worker:
        assert served.address == "ray://unstale"
        dying, mine = unstale.connect("ray://"), model()
        assert dying.pull(model())
        ray.kill(vars(dying._line)["_seat"], no_restart=True)
        until(lambda: served._conductor.members[0].failures == ["its connection ended"])
        work = worker.pull(mine)
        assert work is not None
        assert work.batch == 0, "what the dead one had"
        assert pushed(worker, mine) == "applied"
        with pytest.raises(RunError, match="is gone"):
            dying.push(gradients(model()))
        dying.close()
    assert [(asked["num_cpus"], asked["max_restarts"]) for asked in ray.asked] == [(0, 0)] * 3
    assert {asked["scheduling_strategy"] for asked in ray.asked} == {("this one", False)}
    assert not ray.is_initialized()


def gradients(module: nn.Module) -> nn.Module:
    module(torch.ones(2, 4)).sum().backward()
    return module


def test_a_server_whose_desk_dies_ends_and_its_scripts_are_told(ray: FakeRay) -> None:
    served = unstale.serve("sync", address="ray://one", workers=2, lr=0.1)
    with unstale.connect("ray://one") as worker:
        ray.kill(ray.named["unstale", "one"], no_restart=True)
        with pytest.raises(RunError, match=r"it failed|the server at ray://one is gone"):
            worker.pull(model())
        with pytest.raises(RunError, match="the desk at ray://one is lost"):
            served.result(300)
        with pytest.raises(RunError, match="the server at ray://one is gone"):
            worker.pull(model())


@pytest.mark.parametrize(
    "message",
    [None, 7, [], ["PUSH", b""], [99, b""], [int(Kind.PUSH), b"x"], [int(Kind.PUSH), b"", 7], [int(Kind.HELLO), b"{"]],
    ids=str,
)
def test_nonsense_costs_only_who_sends_it_its_place(message: Any) -> None:
    """As of a script with another version."""
    mine = model()
    with (
        unstale.serve("asgd", address="ray://all", lr=0.1) as served,
        unstale.connect("ray://all") as good,
        unstale.connect("ray://all") as bad,
    ):
        for worker in (good, bad):
            worker.pull(mine)
        line = bad._line
        assert isinstance(line, RayLine)
        line._seat.put.remote(SERVER, message)
        with pytest.raises(RunError, match="makes no sense"):
            pushed(bad, mine)
        assert pushed(good, mine) == "applied"
        served.stop()
        sound, lost = served.result(300).members
    assert isinstance(sound, dict)
    assert isinstance(lost, dict)
    assert (len(sound["failures"]), len(lost["failures"])) == (0, 1)


def test_half_precision_connects() -> None:
    with unstale.serve("dana_ga", address="ray://half", lr=0.1), unstale.connect("ray://half") as worker:
        module = model().to(torch.bfloat16)
        for _ in range(3):
            assert worker.pull(module)
            module(torch.ones(2, 4, dtype=torch.bfloat16)).sum().backward()
            assert worker.push(module).outcome == "applied"
        worker.load(module)


def test_a_name_is_given_once_and_a_connection_that_is_there_is_kept(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray.init(address="auto")
    monkeypatch.setenv("UNSTALE_ADDRESS", "ray://mine")
    with unstale.serve(lr=0.1, model=model()), unstale.connect() as worker:
        with pytest.raises(ArgumentError, match="address must be free, but a server is at ray://mine already"):
            unstale.serve(lr=0.1)
        with unstale.serve(address="ray://other", lr=0.1):
            pass
        assert worker.pull(model())
    assert ray.is_initialized()


def test_what_is_no_server() -> None:
    with pytest.raises(RunError, match="no server answers at ray://nobody on this Ray cluster; start one with"):
        unstale.connect("ray://nobody", wait=0)
    with pytest.raises(ArgumentError, match=r"address must be ray:// and a name .* got 'ray://10.0.0.1:10001'"):
        unstale.connect("ray://10.0.0.1:10001")


def test_where_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    for what in (unstale.connect, lambda address: unstale.serve(address=address)):
        with pytest.raises(ArgumentError, match=r"RAY_ADDRESS must be .* got '10.0.0.1:6379' \(nobody answers\)"):
            what("ray://digits")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"connect\('ray://digits'\) needs the package ray"):
        unstale.connect("ray://digits")


def test_the_command_line_serves(tmp_path: Path) -> None:
    def script() -> int:
        module, batches = model(), 0
        with unstale.connect("ray://line", wait=30) as worker:
            while worker.pull(module):
                pushed(worker, module)
                batches += 1
        return batches

    done = in_thread(script)
    with pytest.raises(SystemExit) as ended:
        main(
            ["serve", "-a", "ray://line", "--epochs", "2", "--batches-per-epoch", "3", "-q", "--out", f"{tmp_path}/out"]
        )
    assert ended.value.code == 0
    assert done.result(300) == 6
    assert len(unstale.Run.load(tmp_path / "out").history) == 6
