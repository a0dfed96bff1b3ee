"""The simulator: deterministic, true to its clock, and honest about what it did."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import unstale
from unstale import methods, tasks
from unstale.callbacks import Callback, StopRun
from unstale.clocks import Clock, Constant, Gamma, Pareto
from unstale.engines import Plan
from unstale.engines.gradients import OneByOne
from unstale.errors import ArgumentError, Interrupted
from unstale.methods import Method, get, names
from unstale.record import Run
from unstale.tasks import Task

HETEROGENEOUS = Gamma(cv=0.3, heterogeneity=0.6)


def blobs(model: Any = None, size: int = 60) -> Task:
    """Three clouds of points; small enough for a run to take milliseconds."""
    rng = np.random.default_rng(0)
    y = torch.arange(size) % 3
    x = torch.from_numpy(rng.normal(size=(size, 4)).astype(np.float32)) + 2 * nn.functional.one_hot(y, 4)
    loss, score = nn.functional.cross_entropy, tasks.accuracy
    return Task(model or (lambda: nn.Linear(4, 3)), loss, (x, y), (x, y), score, chance=100 / 3, score_name="accuracy")


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def trained(method: str | Method = "dana_ga", workers: int = 4, task: Task | None = None, **plan: Any) -> Run:
    return unstale.train(task or blobs(), method, workers, **{"lr": 0.05, "epochs": 3, "batch_size": 8, **plan})


def equal(one: Run, other: Run) -> bool:
    same = all(torch.equal(one.params[name], other.params[name]) for name in one.params)
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    pd.testing.assert_frame_equal(one.evaluations, other.evaluations, check_exact=True)
    return same


@pytest.mark.parametrize("name", names())
def test_a_run_repeats_to_the_bit(name: str) -> None:
    runs = [trained(name, task=blobs(normed), clock=HETEROGENEOUS) for _ in range(2)]
    assert equal(*runs)
    assert not torch.equal(runs[0].params["0.weight"], trained(name, task=blobs(normed), seed=1).params["0.weight"])


def test_a_run_does_not_depend_on_threads_or_global_seeds() -> None:
    first = trained(task=blobs(normed))
    threads = torch.get_num_threads()
    torch.manual_seed(123)
    torch.set_num_threads(2)
    assert equal(first, trained(task=blobs(normed)))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)


@pytest.mark.parametrize("clock", [Gamma(), HETEROGENEOUS, Pareto(shape=1.5), Constant()])
def test_arrivals_are_the_clocks_schedule(clock: Clock) -> None:
    history = trained("asgd", 5, clock=clock, seed=3).history
    schedule = clock.schedule(5, len(history), seed=3)
    # At the end nothing more is handed out, so the last N pushes are those that were out, not the next that would be.
    steady = len(history) - 5 + 1
    assert steady > 15
    for column, expected in zip(("worker", "time", "delay"), schedule, strict=True):
        assert history[column].tolist()[:steady] == expected.tolist()[:steady]


def test_methods_see_the_same_timings() -> None:
    """Paired comparison: same worker, same time, same batch for every method that never waits."""
    runs = [trained(name, clock=HETEROGENEOUS) for name in names() if name not in ("sync", "backup")]
    for run in runs[1:]:
        for column in ("worker", "time", "epoch"):
            assert run.history[column].tolist() == runs[0].history[column].tolist()


@pytest.mark.parametrize("workers", [1, 3, 5])
def test_synchronous_time_is_the_clocks(workers: int) -> None:
    run = trained("sync", workers, clock=HETEROGENEOUS)
    summary = run.summary()
    assert summary["simulated_time"] == HETEROGENEOUS.synchronous_time(workers, len(run.history), 0)
    assert summary["wasted"] == 0
    assert (run.history["delay"] == 0).all()


def test_one_worker_is_a_training_loop() -> None:
    """nag_asgd with one worker is the loop that everybody writes, in float64 to rounding."""
    task = blobs(size=50)
    run = trained("nag_asgd", 1, task, weight_decay=1e-2, dtype=torch.float64, epochs=2)
    plan = Plan(task=task, method=get("nag_asgd"), batch_size=8)
    model = task.build(0).double()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2)
    for batch in range(14):
        x, y = task.batch(plan.batches.indices(batch))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x.double()), y).backward()
        optimiser.step()
    torch.testing.assert_close(run.params["weight"], model.weight.detach(), rtol=1e-12, atol=1e-12)
    assert len(run.history) == 14


def test_every_example_is_seen_once_an_epoch() -> None:
    seen: list[int] = []

    class Noting(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
        def __len__(self) -> int:
            return 21

        def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append(index)
            return torch.full((4,), float(index)), torch.tensor(index % 3)

    test = torch.zeros(3, 4), torch.arange(3)
    task = Task(nn.Linear(4, 3), nn.functional.cross_entropy, Noting(), test, tasks.accuracy)
    trained("asgd", 3, task, epochs=2, batch_size=4)
    assert sorted(seen) == sorted([*range(21)] * 2)


def test_history_has_no_holes() -> None:
    run = trained("backup", 4, clock=HETEROGENEOUS, epochs=4)
    history = run.history
    assert history["push"].tolist() == list(range(len(history)))
    assert history["time"].is_monotonic_increasing
    used = history[history["outcome"].isin(["applied", "held"])]
    assert len(used) == 4 * 8
    dropped = history[history["outcome"] == "dropped"]
    assert len(dropped) > 0
    assert len(dropped) == run.summary()["wasted"]
    assert dropped["gap"].isna().all()
    assert used["progress"].tolist() == [k / 8 for k in range(32)]


def test_restarting_methods_give_up_stale_work() -> None:
    method = Method(admission=methods.MaxDelay(2, restart=True))
    run = trained(method, 4, clock=Gamma(cv=0.5, heterogeneity=1.0), epochs=4)
    assert (run.history["delay"] <= 2).all()
    assert (run.history["outcome"] == "applied").all(), "cancelled tickets never arrive"
    assert len(run.history) == 32


@pytest.mark.parametrize("policy", ["shared", "per-worker", "recalibrate"])
def test_batch_norm_policies(policy: str) -> None:
    run = trained("ga", 3, blobs(normed), batch_norm=policy, epochs=6)
    assert run.score > 60
    assert run.config["batch_norm"] == policy
    assert float(run.params["1.running_mean"].abs().sum()) > 0


def test_shared_statistics_of_one_worker_are_torchs_own() -> None:
    task = blobs(lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)))
    run = trained("nag_asgd", 1, task, epochs=1)
    model = task.build(0).train()
    assert isinstance(model, nn.Sequential)
    plan = Plan(task=task, method=get("nag_asgd"), batch_size=8)
    for batch in range(8):
        model(task.batch(plan.batches.indices(batch))[0])
    torch.testing.assert_close(run.params["0.running_mean"], model[0].running_mean)  # type: ignore[index]
    torch.testing.assert_close(run.params["0.running_var"], model[0].running_var)  # type: ignore[index]
    assert run.params["0.num_batches_tracked"] == 8


def test_gradients_depend_on_their_ticket_alone() -> None:
    """Dropout included: the same ticket gives the same gradient, whatever was computed in between."""
    plan = Plan(task=blobs(normed), method=get("asgd"), workers=3, batch_size=8)
    module = plan.task.build(0)
    server = plan.server(module)
    compute = OneByOne(plan, module, server.layout).compute
    first, second = server.pull(0), server.pull(1)
    assert first is not None
    assert second is not None
    gradients = [compute(ticket).gradient.clone() for ticket in (first, second, first)]
    assert torch.equal(gradients[0], gradients[2])
    assert not torch.equal(gradients[0], gradients[1])


def test_divergence_is_kept_and_marked() -> None:
    deep = blobs(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    run = trained("nag_asgd", 4, deep, lr=1e30, epochs=8)
    assert len(run.history) == 64, "it goes on"
    assert run.diverged
    assert run.summary()["nonfinite"]
    stopped = trained("nag_asgd", 4, deep, lr=1e30, epochs=8, stop_on_divergence=True)
    assert stopped.status == "stopped"
    assert len(stopped.history) < 64
    assert stopped.diverged


def test_rejected_batches_are_quarantined_and_listed() -> None:
    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        value = nn.functional.cross_entropy(output, target)
        return value * torch.nan if bool((target == 7).any()) else value

    x, y = torch.randn(24, 4), torch.arange(24) % 3
    y[0] = 7
    task = Task(lambda: nn.Linear(4, 8), loss, (x, y), (x[1:], y[1:]), tasks.accuracy)
    run = trained("asgd", 2, task, on_nonfinite="reject", epochs=2)
    assert len(run.quarantined) == 2
    assert run.history["outcome"].value_counts()["rejected"] == 6
    assert run.summary()["quarantined"] == list(run.quarantined)
    assert not run.diverged


def test_evaluations_come_when_asked() -> None:
    run = trained(epochs=4, eval_every=2)
    assert run.evaluations["progress"].tolist() == [0, 2, 4]
    assert trained(epochs=1.5, eval_every=1).evaluations["progress"].tolist() == [0, 1, 1.5]


def test_learning_rates_follow_progress() -> None:
    run = trained(lr=unstale.Recipe(lr=0.1, warmup=0.5, at=(0.75,)), epochs=2, workers=4)
    lr = run.history["lr"].to_numpy()
    assert lr[0] == pytest.approx(0.1 / 4)
    assert lr[8] == pytest.approx(0.1)
    assert lr[-1] == pytest.approx(0.01)
    assert (np.diff(lr[:8]) > 0).all()


class Counting(Callback):
    def __init__(self, stop_at: int = 10**9, error: type[BaseException] = StopRun) -> None:
        self.calls: list[str] = []
        self.stop_at, self.error = stop_at, error

    def on_start(self, plan: Plan) -> None:
        self.calls.append("start")

    def on_push(self, row: Mapping[str, Any]) -> None:
        self.calls.append("push")
        if self.calls.count("push") == self.stop_at:
            raise self.error

    def on_evaluation(self, row: Mapping[str, Any]) -> None:
        self.calls.append("evaluation")

    def on_end(self, run: Run) -> None:
        self.calls.append(run.status)


def test_callbacks_see_everything_and_may_stop() -> None:
    counting = Counting()
    trained(epochs=1, callbacks=[counting])
    assert [key for key, _ in itertools.groupby(counting.calls)] == [
        "start",
        "evaluation",
        "push",
        "evaluation",
        "finished",
    ]
    stopped = trained(callbacks=[Counting(stop_at=5)])
    assert (stopped.status, len(stopped.history)) == ("stopped", 5)


def test_interruption_keeps_what_was_computed() -> None:
    with pytest.raises(Interrupted) as caught:
        trained(callbacks=[Counting(stop_at=7, error=KeyboardInterrupt)])
    run = caught.value.run
    assert (run.status, len(run.history)) == ("interrupted", 7)
    assert run.params


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be"),
        ({"epochs": 0}, "epochs must be a finite number above 0, got 0"),
        ({"lr": -0.1}, "lr must"),
        ({"lr": float("nan")}, "lr must"),
        ({"batch_size": 61}, "batch_size must be at most the 60 examples there are, got 61"),
        ({"engine": "cloud"}, "engine must be one of simulate, got 'cloud'"),
        ({"clock": "gamma"}, "clock must be a Clock"),
        ({"seed": -1}, "seed must be"),
        ({"learning_rate": 0.1}, r"train\(\) has no argument 'learning_rate'"),
        ({"dtype": torch.int32}, "dtype must be a floating-point"),
        ({"eval_every": 0}, "eval_every must be"),
        ({"weight_decay": float("inf")}, "weight_decay must be"),
        ({"on_nonfinite": "skip"}, "on_nonfinite must be one of"),
        ({"device": "cpux"}, "device must be"),
        ({"executor": "fast"}, "executor must be one of"),
    ],
)
def test_bad_arguments_are_named_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        trained(**{**options})


def test_a_task_must_be_a_task() -> None:
    with pytest.raises(ArgumentError, match="task must be a Task"):
        unstale.train("digits", "asgd")  # type: ignore[arg-type]


def test_a_rate_of_zero_is_fine() -> None:
    run = trained(lr=0)
    start = blobs().build(0)
    assert torch.equal(run.params["weight"], start.state_dict()["weight"])


def test_runs_in_other_precisions() -> None:
    for dtype in (torch.float64, torch.bfloat16):
        run = trained(dtype=dtype, epochs=6, task=blobs(normed))
        assert run.params["0.weight"].dtype == dtype
        assert run.score > 50


def test_plans_describe_themselves() -> None:
    plan = Plan(task=blobs(), method=get("ga"), workers=3, batch_size=8)
    described = plan.describe()
    assert described["workers"] == 3
    assert isinstance(described["method"], dict)
    assert described["method"]["type"] == "Method"
    assert dataclasses.replace(plan, seed=1).describe() != described


def test_quadratic_ends_near_its_optimum() -> None:
    run = unstale.train(tasks.quadratic(), "dana_ga", 8, lr=unstale.Recipe(lr=0.05), epochs=40, batch_size=16)
    assert run.score < 0.2
