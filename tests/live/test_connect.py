"""Scripts as workers: what they push is what a server would get by hand, and whatever they do, it stays whole."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import unstale
from tests.cli.run import ENVIRONMENT, Command, start
from tests.live.fake_ray import FakeRay
from unstale.checkpoint import numbers
from unstale.engines.live.frames import Channel, Kind
from unstale.engines.live.ray.line import RayLine
from unstale.engines.live.scripts import line
from unstale.engines.live.scripts.callers import SocketCallers
from unstale.errors import ArgumentError, GradientError, RunError
from unstale.events import EventLog, read_events
from unstale.storage import read_json, write_json

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()

SCRIPT = """
import os, sys, time
import torch, unstale
from torch.nn.functional import cross_entropy
from tests.live.test_connect import X, Y, model_of

model = model_of(int(os.environ.get("RANK", 9)))
batches = []
with unstale.connect() as worker:
    while work := worker.pull(model):
        batches.append(work.batch)
        if "hang" in sys.argv:
            if (child := os.fork()) == 0:
                time.sleep(600)
                os._exit(0)
            print("computing", worker.number, child, flush=True)
            time.sleep(600)
        cross_entropy(model(X[4 * work.index :][:4]), Y[4 * work.index :][:4]).backward()
        worker.push(model)
torch.save({"model": model.state_dict(), "batches": batches, "number": worker.number}, sys.argv[1])
"""


def model_of(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def gradient(model: nn.Module, index: int) -> Tensor:
    loss = cross_entropy(model(X[4 * index :][:4]), Y[4 * index :][:4])
    loss.backward()
    return loss


@pytest.fixture
def address() -> Iterator[Path]:
    """A short one: pytest's own folders are too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="u") as folder:
        yield Path(folder) / "s"
        assert not list(Path(folder).iterdir()), "the socket is left behind"


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    """All that is left behind is what was there."""
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    yield fake
    assert fake.started is None, "still connected"
    assert all(actor.dead for actor in fake.actors)


@pytest.fixture(params=["socket", "ray"])
def place(request: pytest.FixtureRequest) -> str:
    """An address, of each kind."""
    if request.param == "socket":
        return str(request.getfixturevalue("address"))
    request.getfixturevalue("ray")
    return "ray://tests"


def in_thread(what: Callable[[], Any]) -> Future[Any]:
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(what())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return done


def until(condition: Callable[[], Any], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def state(served: unstale.Served, name: str, worker: int | None = None) -> Tensor:
    found: Tensor = served._of(lambda server: server.state(name, worker))
    return found


def script(tmp_path: Path, address: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    named = {name: value for name, value in ENVIRONMENT.items() if name not in ("RANK", "LOCAL_RANK", "SLURM_PROCID")}
    root = str(Path(__file__).resolve().parents[2])
    named |= {"UNSTALE_ADDRESS": str(address), "PYTHONPATH": os.pathsep.join([root, *sys.path]), **environment}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], env=named, stdout=subprocess.PIPE, text=True)


def is_there(server: subprocess.Popen[str], address: Path) -> None:
    """Scripts can connect now; a server that has ended instead shows what it said."""
    until(lambda: address.exists() or server.poll() is not None)
    assert server.poll() is None, server.communicate()


# What is computed.


def test_one_script_with_nesterov_is_torch(place: str) -> None:
    theirs = nn.Linear(4, 2)
    ours = nn.Linear(4, 2)
    ours.load_state_dict(theirs.state_dict())
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    with unstale.serve("nag_asgd", address=place, lr=0.1, weight_decay=0.01, epochs=2, batches_per_epoch=10) as served:
        with unstale.connect(place) as worker:
            while work := worker.pull(ours):
                optimiser.zero_grad()
                gradient(theirs, work.index)
                optimiser.step()
                receipt = worker.push(ours, gradient(ours, work.index))
        assert (receipt.outcome, receipt.delay, work) == ("applied", 0, None)
        for name, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], value)
        run = served.result(300)
    assert run.status == "finished"
    assert run.history["loss"].notna().all()
    assert run.history["progress"].iloc[-1] == 1.9


@pytest.mark.parametrize("method", ["dana_ga", "ga(per=layer)", "fedbuff"])
def test_two_scripts_in_turns_are_the_server_by_hand_to_the_bit(method: str, place: str) -> None:
    """With BatchNorm, and decay on matrices only: the server's order of parameters is not the model's."""
    from unstale.flat import decay_matrices_only

    terms: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.01, "groups": decay_matrices_only()}
    server = unstale.Server(model_of(), method, 2, batches=12, batches_per_epoch=6, **terms)
    theirs = model_of()
    tickets = [server.pull(0), server.pull(1)]
    for turn in range(12):
        ticket = tickets[turn % 2]
        assert ticket is not None
        ticket.load(theirs)
        gradient(theirs, ticket.batch % 6)
        server.push(ticket, theirs)
        if turn < 10:
            tickets[turn % 2] = server.pull(turn % 2)
    server.load_into(theirs)
    with unstale.serve(method, address=place, workers=2, epochs=2, batches_per_epoch=6, **terms) as served:
        models, workers = [model_of(), model_of(1)], [unstale.connect(place, worker=n) for n in range(2)]
        first = in_thread(lambda: workers[0].pull(models[0]))
        until(lambda: served.stats()["alive"] == 1)
        second = in_thread(lambda: workers[1].pull(models[1]))
        works = [first.result(300), second.result(300)]
        assert [work.batch for work in works] == [0, 1], "they are handed out by number"
        for turn in range(12):
            n = turn % 2
            gradient(models[n], works[n].index)
            workers[n].push(models[n])
            if turn < 10:
                works[n] = workers[n].pull(models[n])
        for worker, model in zip(workers, models, strict=True):
            assert worker.pull(model) is None
            assert all(torch.equal(model.state_dict()[name], value) for name, value in theirs.state_dict().items())
            worker.close()
        run = served.result(300)
    assert all(torch.equal(run.params[name], value) for name, value in theirs.state_dict().items())
    assert torch.equal(served.params, server.params)


def test_theta_can_be_had_between_push_and_pull(place: str) -> None:
    model, evaluated, given = model_of(), model_of(1), model_of()
    with (
        unstale.serve("dana", address=place, model=given, lr=0.1) as served,
        unstale.connect(place) as worker,
    ):
        with pytest.raises(ArgumentError, match="between a push and the next pull"):
            worker.load(evaluated)
        for index in range(3):
            assert worker.pull(model)
            with pytest.raises(ArgumentError, match="between a push and the next pull"):
                worker.load(evaluated)
            gradient(model, index)
            worker.push(model)
        worker.load(evaluated)
        served.load_into(model)
        assert all(torch.equal(model.state_dict()[name], value) for name, value in evaluated.state_dict().items())
        assert worker.pull(model)
        assert not torch.equal(model[0].weight, evaluated[0].weight)  # type: ignore[index]
    assert all(torch.equal(given.state_dict()[name], value) for name, value in model_of().state_dict().items())


def test_shared_and_frozen_parameters(place: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
            self.one = nn.Linear(4, 4, bias=False)
            self.two = nn.Linear(4, 4, bias=False)
            self.two.weight = self.one.weight

    model = Tied()
    with unstale.serve("asgd", address=place, lr=1.0) as served, unstale.connect(place) as worker:
        worker.pull(model)
        before = model.one.weight.detach().clone()
        model.two(torch.eye(4)).sum().backward()
        worker.push(model)
        worker.load(model)
        served.stop()
        run = served.result(300)
    assert set(run.params) == {"one.weight", "two.weight"}
    assert torch.equal(run.params["two.weight"], before - 1)
    assert torch.equal(model.one.weight, before - 1)


# Scripts as they are started.


def test_scripts_started_by_torchrun_and_by_hand(tmp_path: Path, address: Path) -> None:
    out = tmp_path / "out"
    server = start(
        *("serve", "--lr", "0.05", "--epochs", "3", "--batches-per-epoch", "10", "--workers", "2"),
        *("--address", address, "--out", out, "--json"),
    )
    try:
        files = [tmp_path / "0.pt", tmp_path / "1.pt"]
        scripts = [
            script(tmp_path, address, str(files[0]), RANK="3", LOCAL_RANK="1"),
            script(tmp_path, address, str(files[1])),
        ]
        for process in scripts:
            process.communicate(timeout=300)
        assert [process.returncode for process in scripts] == [0, 0]
        said, _ = server.communicate(timeout=300)
    finally:
        server.kill()
    assert server.returncode == 0
    assert json.loads(said)["summary"]["pushes"] == 30
    found = [torch.load(file, weights_only=True) for file in files]
    assert [one["number"] for one in found] == [3, 0]
    assert sorted([*found[0]["batches"], *found[1]["batches"]]) == list(range(30))
    saved = load_file(out / "params.safetensors")
    for one in found:
        assert all(torch.equal(one["model"][name], value) for name, value in saved.items())
    run = unstale.Run.load(out)
    assert not run.diverged
    assert run.events is not None
    assert list(run.events["kind"].iloc[:3]) == ["join", "join", "join"]
    assert "depart" in set(run.events["kind"])  # number 1, which nobody took


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_it_in_order(number: signal.Signals, code: int, tmp_path: Path, address: Path) -> None:
    process = start("serve", "--address", address, "--out", tmp_path / "out")
    try:
        with unstale.connect(address, wait=60) as worker:
            model = model_of()
            for index in range(3):
                assert worker.pull(model)
                gradient(model, index)
                if index == 2:
                    process.send_signal(number)
                    time.sleep(0.3)
                receipt = worker.push(model)
            assert receipt.outcome == "applied"  # there is a grace
            assert worker.pull(model) is None
        _, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code
    assert "3 pushes are saved in" in err
    assert "Traceback" not in err
    run = unstale.Run.load(tmp_path / "out")
    assert run.status == "interrupted"
    assert all(torch.equal(run.params[name], value) for name, value in model.state_dict().items())


# Servers that end, and go on.


def trained(address: str | Path) -> None:
    """What a script does until all is done."""
    model = model_of()
    with unstale.connect(address, wait=60) as worker:
        while work := worker.pull(model):
            gradient(model, work.index)
            worker.push(model)


def push(worker: unstale.Worker, count: int) -> nn.Module:
    """So many, from the first batch on."""
    model = model_of()
    for index in range(count):
        worker.pull(model)
        gradient(model, index)
        worker.push(model)
    return model


def batches(run: unstale.Run) -> list[int]:
    """Those that were accepted, by the log."""
    assert run.events is not None
    events = run.events
    return sorted(events.loc[(events["kind"] == "push") & events["outcome"].isin(["applied", "held"]), "batch"])


def same_parameters(one: unstale.Run, other: unstale.Run) -> bool:
    assert one.params.keys() == other.params.keys()
    return all(torch.equal(one.params[name], value) for name, value in other.params.items())


@pytest.mark.parametrize("method", ["dana_ga", "ga_adam", "fedbuff"])
def test_a_server_that_was_stopped_goes_on_to_the_same_bits(method: str, place: str, tmp_path: Path) -> None:
    terms: dict[str, Any] = {"lr": 0.05, "epochs": 2, "batches_per_epoch": 10}
    with unstale.serve(method, address=place, **terms) as served:
        trained(served.address)
        whole = served.result(300)
    folder, events = tmp_path / "checkpoints", tmp_path / "events"
    kept, hasty = unstale.Checkpoints(folder, pushes=4), unstale.Patience(grace=0.1)
    with (
        unstale.serve(method, address=place, record=events, checkpoints=kept, patience=hasty, **terms) as served,
        unstale.connect(served.address) as worker,
    ):
        worker.pull(push(worker, 7))  # it has a batch out when all stops
        served.stop()
        served.wait(30)
    assert numbers(folder) == [4, 7]
    with pytest.raises(ArgumentError, match="resume must be given the plan that the run began with, but lr"):
        unstale.serve(method, address=place, record=events, resume=folder, **{**terms, "lr": 0.1})
    with unstale.serve(method, address=place, record=events, resume=folder, **terms) as served:
        trained(served.address)
        run = served.result(300)
    assert run.status == "finished"
    assert list(run.history["push"]) == list(range(20))
    assert batches(run) == list(range(20))
    assert same_parameters(whole, run)


@pytest.mark.parametrize("policy", ["recalibrate", "per-worker"])
def test_the_statistics_that_a_model_came_with_are_kept(policy: str, address: Path, tmp_path: Path) -> None:
    """And the log, which is with the checkpoints if nothing else is said; and when each worker got its ticket."""
    terms: dict[str, Any] = {"lr": 0.05, "epochs": 1, "batches_per_epoch": 10, "batch_norm": policy}
    with unstale.serve("ga", address=address, **terms) as served:
        trained(address)
        whole = served.result(300)
    kept = unstale.Checkpoints(tmp_path, pushes=4)
    with unstale.serve("ga", address=address, checkpoints=kept, **terms), unstale.connect(address) as worker:
        push(worker, 4)
    with unstale.serve("ga", address=address, resume=tmp_path, **terms) as served:
        trained(address)
        run = served.result(300)
    assert batches(run) == list(range(10))
    assert same_parameters(whole, run)
    (member,) = run.members
    assert isinstance(member, dict)
    assert isinstance(member["mean_seconds"], float)
    assert member["mean_seconds"] < run.seconds / 2


def test_a_server_that_nobody_came_to_goes_on(unstale_command: Command, tmp_path: Path, address: Path) -> None:
    out = tmp_path / "out"
    server = start("serve", "--epochs", "1", "--batches-per-epoch", "3", "--address", address, "--out", out)
    until(lambda: address.exists() and (out / "served.json").exists())
    server.send_signal(signal.SIGINT)
    said = server.communicate(timeout=300)[1]
    assert f"0 pushes are saved in {out}; go on with: unstale serve --resume {out}" in " ".join(said.split())
    again = start("serve", "--resume", out)  # the address is as it was
    is_there(again, address)
    trained(address)
    assert again.communicate(timeout=300)
    assert again.returncode == 0
    assert len(unstale.Run.load(out).history) == 3
    assert unstale_command("serve", "--method", "nope", "--out", tmp_path / "other").code == 2
    assert not (tmp_path / "other" / "events").exists(), "the folder is as free as before"


def test_ctrl_c_while_it_notes_what_it_was_told_waits_for_the_end_of_that(
    unstale_command: Command, tmp_path: Path, address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def struck(path: Path, value: Any) -> None:
        path.touch()
        signal.raise_signal(signal.SIGINT)
        write_json(path, value)

    monkeypatch.setattr("unstale.storage.write_json", struck)
    assert unstale_command("serve", "--lr", "0.3", "--address", address, "--out", tmp_path / "out").code == 130
    assert read_json(tmp_path / "out" / "served.json")["lr"] == 0.3


def test_a_server_that_is_killed_goes_on_from_its_checkpoint(
    unstale_command: Command, tmp_path: Path, address: Path
) -> None:
    out = tmp_path / "out"
    told = ("--lr", "0.05", "--epochs", "1", "--batches-per-epoch", "10", "--address", address)
    server = start("serve", *told, "--out", out, "--checkpoint-every", "3")
    try:
        with unstale.connect(address, wait=60) as worker:
            model = push(worker, 7)
            until(lambda: numbers(out / "checkpoints")[-1:] == [6])
            server.kill()
            server.wait()
            with pytest.raises(RunError, match="is gone"):
                worker.pull(model)
    finally:
        server.kill()
        server.communicate()
    wrong = unstale_command("serve", "--resume", out, "--lr", "0.1")
    assert wrong.err.startswith(f"error: --lr must be as when the run in {out} began, 0.05, got 0.1")
    assert wrong.code == 2
    again = start("serve", "--resume", out, "--address", address)
    try:
        trained(address)
        _, err = again.communicate(timeout=300)
    finally:
        again.kill()
    assert again.returncode == 0, err
    run = unstale.Run.load(out)
    assert run.status == "finished"
    assert list(run.history["push"]) == list(range(10))
    assert batches(run) == list(range(10)), "the seventh was lost, and came again"
    with unstale.serve("dana_ga", address=address, lr=0.05, epochs=1, batches_per_epoch=10) as served:
        trained(address)
        assert same_parameters(served.result(300), run)
    assert not (out / "checkpoints").exists()
    finished = unstale_command("serve", "--resume", out)
    assert "holds a finished run: there is nothing to resume" in " ".join(finished.out.split())
    assert finished.code == 0


def test_a_server_that_is_killed_before_its_first_checkpoint_begins_anew(
    unstale_command: Command, tmp_path: Path, address: Path
) -> None:
    out = tmp_path / "out"
    server = start("serve", "--epochs", "1", "--batches-per-epoch", "3", "--address", address, "--out", out)
    until(lambda: (out / "served.json").exists())
    assert f"error: {out} is in use already" in unstale_command("serve", "--resume", out).err
    server.kill()
    server.communicate()
    log = EventLog(out / "events")
    log.add(0.0, "join", worker=0)
    log.write()
    again = start("serve", "--resume", out)
    is_there(again, address)
    trained(address)
    said = " ".join(again.communicate(timeout=300)[1].split())
    assert again.returncode == 0
    assert f"the run begins anew; its log until now is in {out / 'events-1'}" in said
    assert len(read_events(out / "events-1")) == 1
    assert unstale.Run.load(out).history["outcome"].tolist() == ["applied"] * 3


# Scripts that fail.


def test_a_killed_script_leaves_the_state_whole(tmp_path: Path, address: Path) -> None:
    """Also one whose forked child lives on, as a loader's would."""
    model = model_of()
    with (
        unstale.serve("dana", address=address, lr=0.05, patience=unstale.Patience(grace=0.0)) as served,
        unstale.connect(address) as worker,
    ):
        for index in range(2):
            worker.pull(model)
            gradient(model, index)
            worker.push(model)
        process = script(tmp_path, address, "hang")
        assert process.stdout is not None
        computing, number, child = process.stdout.readline().split()
        assert (computing, number) == ("computing", "1")
        assert len(served._of(lambda server: server.workers)) == 2
        process.kill()
        process.wait()
        process.stdout.close()
        until(lambda: served._of(lambda server: server.workers) == (0,))
        os.kill(int(child), signal.SIGKILL)
        work = worker.pull(model)
        assert work is not None
        assert work.batch == 2, "what the dead one had"
        assert torch.equal(state(served, "S"), state(served, "v", 0))
        served.stop()
        (mine, its) = served.result(300).members
    assert isinstance(its, dict)
    assert its["failures"] == ["its connection ended"]
    assert isinstance(mine, dict)
    assert mine["failures"] == []


def fail(worker: unstale.Worker, model: nn.Module) -> None:
    worker.pull(model)
    raise ZeroDivisionError("of mine")


def test_an_exception_is_told_and_a_close_is_not_a_failure(place: str) -> None:
    model = model_of()
    with unstale.serve("dana", address=place, lr=0.05) as served:
        with unstale.connect(place) as worker:
            worker.pull(model)
        with pytest.raises(ZeroDivisionError), unstale.connect(place) as worker:
            fail(worker, model)
        until(lambda: served.stats()["alive"] == 0)
        served.stop()
        run = served.result(300)
    assert isinstance(run.members[0], dict)
    assert run.members[0]["failures"] == ["ZeroDivisionError: of mine"]
    assert run.events is not None
    assert list(run.events.query("kind == 'depart'")["outcome"]) == ["left", "failed"]


def test_a_hung_script_is_late_and_may_go_on(place: str) -> None:
    model, other = model_of(), model_of()
    hasty = unstale.Patience(floor=2.0, starting=2.0, slowness=1.0, grace=0.1)
    with (
        unstale.serve("dana", address=place, lr=0.05, patience=hasty) as served,
        unstale.connect(place) as slow,
        unstale.connect(place) as quick,
    ):
        first = slow.pull(model)
        assert first is not None
        until(lambda: served._of(lambda server: server.workers) == ())
        work = quick.pull(other)
        assert work is not None
        assert work.batch == first.batch
        gradient(other, 0)
        assert quick.push(other).outcome == "applied"
        before = served.params
        gradient(model, 0)
        assert slow.push(model).outcome == "late"
        assert torch.equal(served.params, before)
        assert slow.pull(model) is not None
        gradient(model, 1)
        assert slow.push(model).outcome == "applied"
        sums = state(served, "S")
        rows = sum(state(served, "v", w) for w in served._of(lambda server: server.workers))
        torch.testing.assert_close(sums, rows)
        served.stop()
        events = served.result(300).events
    assert events is not None
    assert list(events.query("worker == 0")["kind"].iloc[:4]) == ["join", "pull", "expire", "depart"]


def test_pull_waits_while_the_gate_is_shut_and_a_second_one_gives_back(place: str) -> None:
    models = [model_of(), model_of()]
    with unstale.serve("sync", address=place, workers=2, lr=0.05):
        workers = [unstale.connect(place) for _ in range(2)]
        first = in_thread(lambda: workers[0].pull(models[0]))
        time.sleep(0.2)
        assert not first.done(), "two must have come"
        second = in_thread(lambda: workers[1].pull(models[1]))
        batches = {first.result(300).batch, second.result(300).batch}
        again = workers[1].pull(models[1])
        assert again is not None
        assert {first.result().batch, again.batch} == batches == {0, 1}
        gradient(models[0], 0)
        assert workers[0].push(models[0]).outcome == "held"
        waiting = in_thread(lambda: workers[0].pull(models[0]))
        time.sleep(0.2)
        assert not waiting.done(), "a round ends when all have pushed"
        gradient(models[1], 0)
        assert workers[1].push(models[1]).outcome == "applied"
        assert waiting.result(300).batch == 2
        for worker in workers:
            worker.close()


# What is refused.


def different(**changes: Any) -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, changes.get("width", 6), bias=changes.get("bias", True)),
        nn.BatchNorm1d(changes.get("width", 6), momentum=changes.get("momentum", 0.1)),
        nn.ReLU(),
        nn.Linear(changes.get("width", 6), 2),
        *changes.get("more", ()),
    )


@pytest.mark.parametrize(
    ("model", "difference"),
    [
        (different(width=7), r"its parameter '0.weight' is of shape \(7, 4\), not of shape \(6, 4\)"),
        (different(bias=False), "it has no parameter '0.bias'"),
        (different(more=[nn.Linear(2, 2)]), "it has a parameter '4.weight' too many"),
        (different(momentum=0.2), r"its layer '1\.' is 0.2, not 0.1"),
        (different().double(), "its parameters are float64, not float32"),
    ],
)
def test_another_model_is_refused(model: nn.Module, difference: str, place: str) -> None:
    with (
        unstale.serve("ga", address=place, model=model_of(), lr=0.1),
        unstale.connect(place) as worker,
        pytest.raises(ArgumentError, match=f"model must be like the server's, but {difference}; build"),
    ):
        worker.pull(model)


def test_numbers_are_given_once(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with unstale.serve("ga", address=place, model=model_of(), lr=0.1):
        with unstale.connect(place, worker=2) as two:
            two.pull(model_of())
            with unstale.connect(place, worker=2) as again, pytest.raises(ArgumentError, match="got 2; give each"):
                again.pull(model_of())
            monkeypatch.setenv("SLURM_PROCID", "2")  # as all have that were started by hand in one job
            with unstale.connect(place) as other:
                other.pull(model_of())
                assert (two.number, other.number) == (2, 0)
        monkeypatch.setenv("RANK", "first")
        with pytest.raises(ArgumentError, match="RANK must be a whole number of at least 0, got 'first'"):
            unstale.connect(place)


def test_words_out_of_turn(place: str) -> None:
    model = model_of()
    with unstale.serve("ga", address=place, lr=0.1) as served, unstale.connect(place) as worker:
        with pytest.raises(RunError, match="there are no parameters yet"):
            _ = served.params
        with pytest.raises(ArgumentError, match="must follow a pull"):
            worker.push(model)
        worker.pull(model)
        with pytest.raises(GradientError, match="has no gradients"):
            worker.push(model)
        gradient(model, 0)
        assert worker.push(model).outcome == "applied"
        with pytest.raises(ArgumentError, match="must follow a pull"):
            worker.push(model)
    with pytest.raises(RunError, match="no server answers at"):
        unstale.connect(place, wait=0)


def test_after_a_pull_was_interrupted_no_answer_is_taken_for_another(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with unstale.serve("ga", address=place, lr=0.1), unstale.connect(place) as worker:
        assert worker.pull(model_of())
        monkeypatch.setattr(worker._line, "_exchange", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.pull(model_of())
        monkeypatch.undo()
        with pytest.raises(RunError, match="was interrupted before its answer came; connect again"):
            worker.pull(model_of())


def say(worker: unstale.Worker, kind: Kind) -> None:
    if isinstance(worker._line, RayLine):
        worker._line._say(kind, b"")
    else:
        vars(worker._line)["_line"].send(kind)


def test_who_speaks_out_of_turn_is_sent_away(place: str) -> None:
    model, other = model_of(), model_of()
    with (
        unstale.serve("dana", address=place, lr=0.1) as served,
        unstale.connect(place) as bad,
        unstale.connect(place) as good,
    ):
        assert bad.pull(model)
        assert good.pull(other)
        say(bad, Kind.LOAD)
        say(bad, Kind.PULL)  # no ticket for one that is gone
        gradient(model, 0)
        with pytest.raises(RunError, match="the server says: it asked for θ in the middle of a ticket"):
            bad.push(model)
        gradient(other, 0)
        assert good.push(other).outcome == "applied"
        assert served._of(lambda server: server.workers) == (1,)


def test_no_port_and_no_other_user(address: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with unstale.serve("ga", address=address, model=model_of(), lr=0.1) as served:
        assert isinstance(served._conductor.fleet, SocketCallers)
        assert served._conductor.fleet.door.socket.family == socket.AF_UNIX
        assert stat.S_IMODE(address.stat().st_mode) == 0o600
        with pytest.raises(ArgumentError, match="a server is at"):
            unstale.serve("ga", address=address, lr=0.1)
        monkeypatch.setattr(line, "same_user", lambda sock: False)
        with pytest.raises(RunError, match="belongs to another user"):
            unstale.connect(address)
        monkeypatch.undo()
        monkeypatch.setattr("unstale.engines.live.scripts.callers.same_user", lambda sock: False)
        with unstale.connect(address) as worker, pytest.raises(RunError, match="is gone"):
            worker.pull(model_of())
    address.parent.chmod(0o777)
    with pytest.raises(ArgumentError, match="in a folder that only you can write to"):
        unstale.serve("ga", address=address, lr=0.1)
    new = address.parent / "new" / "s"
    address.parent.chmod(0o700)
    with unstale.serve("ga", address=new, lr=0.1):
        assert stat.S_IMODE(new.parent.stat().st_mode) == 0o700
    new.parent.rmdir()
    with pytest.raises(ArgumentError, match="other machines cannot"):
        unstale.connect("tcp://10.0.0.1:1")


def test_a_path_that_was_mistyped_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot listen at .*: No such file or directory; choose another address"):
        unstale.serve("ga", address=tmp_path / "no" / "where" / "s")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_server_left_is_in_nobody_s_way(address: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(address))
    with unstale.serve("ga", address=address, lr=0.1), unstale.connect(address) as worker:
        assert worker.pull(model_of()) is not None
    address.write_text("mine")
    with pytest.raises(ArgumentError, match="got the file"):
        unstale.serve("ga", address=address, lr=0.1)
    address.unlink()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.HELLO, b"\0" * 9 + b"cos\nsystem\n"),
        (Kind.PULL, b""),
        (Kind.PUSH, b"?"),
        (Kind.UP, b""),
        (None, b"rubbish" * 9),
    ],
)
def test_rubbish_harms_nobody(kind: Kind | None, payload: bytes, address: Path) -> None:
    model = model_of()
    with unstale.serve("ga", address=address, lr=0.1), unstale.connect(address) as worker:
        assert worker.pull(model)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(address))
            if kind is None:
                sock.sendall(payload)
            else:
                Channel(sock).send(kind, payload)
            sock.settimeout(10)
            while sock.recv(4096):
                pass
        gradient(model, 0)
        assert worker.push(model).outcome == "applied"


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"epochs": 2}, "batches_per_epoch must be given with epochs"),
        ({"lr": unstale.Recipe(0.1)}, "lr must be a number where epochs is not given"),
        ({"lr": -1}, "lr must be"),
        ({"workers": 0}, "workers must be a whole number of at least 1"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite must be one of"),
        ({"rate": 1}, r"serve\(\) has no argument 'rate'"),
        ({"address": "x" * 200}, "at most 107 bytes"),
    ],
)
def test_wrong_terms(terms: Mapping[str, Any], says: str, address: Path) -> None:
    with pytest.raises(ArgumentError, match=says):
        unstale.serve("ga", **{"address": address, **terms})
