"""The simulator: deterministic, true to its clock, and honest about what it did."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unstale
from tests.engines.problems import blobs, equal, normed, trained
from unstale import methods, tasks
from unstale.callbacks import Callback
from unstale.clocks import Clock, Constant, Gamma, Pareto
from unstale.engines import Plan
from unstale.engines.gradients import OneByOne, job
from unstale.errors import ArgumentError
from unstale.methods import Method, get, names
from unstale.tasks import Task

HETEROGENEOUS = Gamma(cv=0.3, heterogeneity=0.6)


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
    runs = [trained(name, clock=HETEROGENEOUS) for name in names() if name not in ("sync", "sync_adam", "backup")]
    for run in runs[1:]:
        for column in ("worker", "time", "epoch"):
            assert run.history[column].tolist() == runs[0].history[column].tolist()


@pytest.mark.parametrize("workers", [1, 3, 5, 7, 10, 16])
@pytest.mark.parametrize("seed", [0, 1])
def test_synchronous_time_is_the_clocks(workers: int, seed: int) -> None:
    """To the bit, also where the last round has fewer batches than workers, and sending takes time."""
    clock = dataclasses.replace(HETEROGENEOUS, communication=0.25)
    run = trained("sync", workers, clock=clock, seed=seed)
    summary = run.summary()
    assert summary["simulated_time"] == clock.synchronous_time(workers, len(run.history), seed)
    assert summary["wasted"] == 0
    assert (run.history["delay"] == 0).all()


def test_one_worker_is_a_training_loop() -> None:
    """nag_asgd with one worker is the loop that everybody writes, in float64 to rounding."""
    task = blobs(size=50)
    run = trained("nag_asgd", 1, task, weight_decay=1e-2, dtype=torch.float64, epochs=2)
    plan = Plan(task=task, method=get("nag_asgd"), batch_size=8)
    model = task.build(0).double()
    assert isinstance(model, nn.Linear)
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
    trained("asgd", 3, task, epochs=2, batch_size=4, strategy="sequential")  # to choose another, data are read
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
    torch.testing.assert_close(run.params["0.running_mean"], model[0].running_mean)
    torch.testing.assert_close(run.params["0.running_var"], model[0].running_var)
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
    gradients = [compute([job(plan, ticket)])[0].gradient.clone() for ticket in (first, second, first)]
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


@pytest.mark.parametrize("every", [0.1, 0.3, 1 / 3, 0.7, 1])
def test_no_evaluation_is_skipped_by_rounding(every: float) -> None:
    run = trained("asgd", 2, eval_every=every, epochs=3, batch_size=6)
    times = [min(30, -(-k * round(every * 1e6) * 10 // 10**6)) for k in range(int(3 / every + 1e-9) + 1)]
    assert [round(p * 10) for p in run.evaluations["progress"]] == sorted({*times, 30})


def test_what_was_evaluated_is_what_is_kept() -> None:
    """Frozen parameters and all: one model is built, trained, evaluated and kept."""
    built: list[nn.Module] = []

    def build() -> nn.Module:
        linear = nn.Linear(4, 3)
        linear.bias.requires_grad_(False).fill_(float(len(built)))
        model = nn.Sequential(linear, nn.BatchNorm1d(3).eval())
        built.append(model)
        return model

    run = trained("asgd", 2, blobs(build))
    assert len(built) == 1
    assert run.params["0.bias"].tolist() == [0, 0, 0]
    assert run.params["1.running_mean"].tolist() == [0, 0, 0], "a norm that the user froze stays frozen"


def test_late_flushes_are_evaluated() -> None:
    """The last batch is quarantined; what waited in the gather moves θ without a push, and the score is that θ's."""
    x, y = torch.zeros(20, 4), torch.arange(20) % 3
    x[Plan(task=blobs(size=20), method=get("asgd"), batch_size=1).batches.indices(19)] = torch.nan
    task = Task(lambda: nn.Linear(4, 3), nn.functional.cross_entropy, (x, y), (torch.ones(3, 4), y[:3]), None)
    run = trained(methods.fedbuff(40), 2, task, on_nonfinite="reject", batch_size=1, epochs=1, eval_every=0.95)
    assert run.quarantined == (19,)
    model = run.load_into(nn.Linear(4, 3))
    assert run.score == pytest.approx(nn.functional.cross_entropy(model(torch.ones(3, 4)), y[:3]).item())


def test_time_is_that_of_pushes_and_cancelled_work_is_wasted() -> None:
    method = Method(admission=methods.MaxDelay(1, restart=True))
    run = trained(method, 8, epochs=1.5)
    assert run.cancelled > 0
    assert run.summary()["wasted"] == run.cancelled
    assert run.evaluations["time"].iloc[-1] == run.history["time"].iloc[-1]


def test_configurations_hold_plain_numbers() -> None:
    given: dict[str, Any] = {"workers": np.int32(2), "lr": np.float32(0.05), "epochs": np.float64(1)}
    runs = [trained(**{**given, "seed": np.int64(seed)}) for seed in (3, 4)]
    assert [run.config["seed"] for run in runs] == [3, 4]
    assert type(runs[0].config["workers"]) is int
    assert runs[0].config["lr"] == pytest.approx(0.05)


def test_lower_is_better_diverges_upwards() -> None:
    x, y = torch.randn(30, 4), torch.zeros(30, 1)
    task = Task(
        lambda: nn.Linear(4, 1),
        nn.functional.mse_loss,
        (x, y),
        (x, y),
        nn.functional.mse_loss,
        chance=1.0,
        higher_is_better=False,
    )
    assert not trained("asgd", 2, task, epochs=20).diverged
    assert trained("asgd", 2, task, lr=1e4).diverged


def test_training_inside_no_grad_and_inference_mode() -> None:
    expected = trained()
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert equal(expected, trained())


def test_learning_rates_follow_progress() -> None:
    run = trained(lr=unstale.Recipe(lr=0.1, warmup=0.5, at=(0.75,)), epochs=2, workers=4)
    lr = run.history["lr"].to_numpy()
    assert lr[0] == pytest.approx(0.1 / 4)
    assert lr[8] == pytest.approx(0.1)
    assert lr[-1] == pytest.approx(0.01)
    assert (np.diff(lr[:8]) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be"),
        ({"epochs": 0}, "epochs must be a finite number above 0, got 0"),
        ({"lr": -0.1}, "lr must"),
        ({"lr": float("nan")}, "lr must"),
        ({"batch_size": 61}, "batch_size must be at most the 60 examples there are, got 61"),
        ({"engine": "cloud"}, "engine must be one of simulate, processes, ray, got 'cloud'"),
        ({"clock": "gamma"}, "clock must be a Clock"),
        ({"seed": -1}, "seed must be"),
        ({"seed": 2**63}, r"seed must be below 2\*\*63"),
        ({"learning_rate": 0.1}, r"train\(\) has no argument 'learning_rate'"),
        ({"dtype": torch.int32}, "dtype must be a floating-point"),
        ({"eval_every": 0}, "eval_every must be"),
        ({"weight_decay": float("inf")}, "weight_decay must be"),
        ({"on_nonfinite": "skip"}, "on_nonfinite must be one of"),
        ({"device": "cpux"}, "device must be"),
        ({"executor": "fast"}, "executor must be one of"),
        ({"executor": 5}, "executor must be one of"),
        ({"clip": 0}, "clip must be a finite number above 0, got 0"),
        ({"clip": float("nan")}, "clip must be a finite number above 0, got nan"),
        ({"drop_last": "no"}, "drop_last must be True or False, got 'no'"),
        ({"callbacks": [5]}, "callbacks must be a list of Callback"),
        ({"callbacks": Callback()}, "callbacks must be a list of Callback"),
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
