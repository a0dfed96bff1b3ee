"""Streams in the simulator: a run is the loop that everybody writes, repeats to the bit, and whatever the strategy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import unstale
from tests.engines.problems import blobs, equal
from unstale.clocks import Gamma
from unstale.engines import Plan
from unstale.engines.gradients import seed_torch
from unstale.errors import ArgumentError
from unstale.methods import get
from unstale.record import Run
from unstale.tasks import StreamTask
from unstale.tasks.models import Shape, TransformerXL, Vocabulary

UNEQUAL = Gamma(cv=0.3, heterogeneity=0.6)


def reading(streams: int = 6, dropout: float = 0.0, length: int = 300) -> StreamTask:
    shape = Shape(layers=2, width=8, heads=2, head_width=4, inner=8, dropout=dropout, memory=4)
    text = torch.randint(7, (length,), generator=torch.Generator().manual_seed(0))
    return StreamTask(lambda: TransformerXL(Vocabulary(7), shape), text, text[:53], target=4, streams=streams)


def trained(task: StreamTask, method: str = "dana_ga", workers: int = 4, **plan: Any) -> Run:
    named = {"lr": 0.1, "epochs": 2, "batch_size": 3, "clock": UNEQUAL, **plan}
    return unstale.train(task, method, workers, **named)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_one_worker_and_one_stream_are_the_usual_training_loop(dropout: float) -> None:
    """Memory from segment to segment, and none at the start of an epoch; random numbers are each batch's own."""
    task = reading(streams=1, dropout=dropout, length=130)
    run = trained(task, "nag_asgd", 1, dtype=torch.float64)
    cut = task.batches(3, 0)
    model = task.build(0).double()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    memory: tuple[Tensor, ...] = ()
    losses = []
    with torch.random.fork_rng():
        for batch in range(2 * cut.per_epoch):
            if batch % cut.per_epoch == 0:
                memory = ()
            symbols, targets = task.batch(cut.indices(batch))
            seed_torch(0, batch)
            found, memory = model(symbols, targets, *memory)
            optimiser.zero_grad()
            found.mean().backward()
            optimiser.step()
            losses.append(float(found.detach().mean()))
    assert run.history["loss"].tolist() == pytest.approx(losses, rel=1e-10)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(run.params[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["asgd", "dana_ga", "sync", "backup"])
def test_every_batch_is_used_once_and_streams_stay_with_their_worker(method: str) -> None:
    run = trained(reading(), method)
    used = run.history[run.history["outcome"].isin(["applied", "held"])]
    per_stream = reading().batches(3, 0).per_stream
    assert used.groupby("stream").size().tolist() == [per_stream] * 12
    assert used.groupby("stream")["worker"].nunique().max() == 1
    assert not run.history["reset"].any()
    assert run.status == "finished"


def test_a_fast_worker_takes_more_streams() -> None:
    used = trained(reading(), "asgd", epochs=4).history.groupby("worker")["stream"].nunique()
    assert used.max() > used.min()
    assert used.sum() == 24


@pytest.mark.parametrize("strategy", ["threads", "batched(lanes=3)"])
def test_every_strategy_gives_the_same_run(strategy: str) -> None:
    one, two = (trained(reading(), strategy=s) for s in ("sequential", strategy))
    assert equal(one, two)
    if strategy != "threads":
        assert "its streams have a memory" in str(two.config["strategy_reason"])


def test_a_run_with_dropout_repeats_to_the_bit() -> None:
    task = reading(dropout=0.3)
    one, two = (trained(task, strategy=s) for s in ("sequential", "threads"))
    assert equal(one, two)
    assert "draws random numbers" in str(two.config["strategy_reason"])
    assert not equal_losses(one, trained(reading(), strategy="sequential"))
    assert not equal_losses(one, trained(task, strategy="sequential", seed=1))


def equal_losses(one: Run, other: Run) -> bool:
    return one.history["loss"].tolist() == other.history["loss"].tolist()


def test_memory_matters() -> None:
    """The same run by a model that forgets is another one, from a stream's second batch on."""
    with_memory, without = (trained(task, "asgd", 1, epochs=0.2) for task in (reading(streams=1), forgetting()))
    one, two = (run.history["loss"].tolist() for run in (with_memory, without))
    assert one[0] == two[0]
    assert one[1] != two[1]


def forgetting() -> StreamTask:
    class Forgetting(TransformerXL):
        def forward(self, symbols: Tensor, targets: Tensor, memory: Tensor | None = None) -> Any:
            return super().forward(symbols, targets)

    shape = Shape(layers=2, width=8, heads=2, head_width=4, inner=8, dropout=0.0, memory=4)
    text = torch.randint(7, (300,), generator=torch.Generator().manual_seed(0))
    return StreamTask(lambda: Forgetting(Vocabulary(7), shape), text, text[:53], target=4, streams=1)


def test_it_learns_and_is_scored_by_perplexity() -> None:
    text = torch.arange(600) % 5
    shape = Shape(layers=1, width=16, heads=2, head_width=8, inner=16, dropout=0.0, memory=4)
    task = StreamTask(lambda: TransformerXL(Vocabulary(5), shape), text, text[:60], target=8, streams=4, chance=5.0)
    run = trained(task, "ga", epochs=8, lr=0.05)
    assert run.evaluations["score"].iloc[0] == pytest.approx(5.0, rel=0.1)
    assert run.score < 1.5
    assert not run.diverged


def test_more_workers_than_streams_are_refused() -> None:
    for workers, epochs, streams in ((7, 1.0, 6), (7, 3.0, 6), (4, 0.5, 3)):
        rule = rf"workers must be at most the {streams} streams .* got {workers}; pass the task more streams"
        with pytest.raises(ArgumentError, match=rule):
            Plan(task=reading(), method=get("asgd"), workers=workers, batch_size=3, epochs=epochs)
    with pytest.raises(ArgumentError, match="must fill streams"):
        Plan(task=reading(), method=get("asgd"), workers=2, batch_size=50)


def test_tasks_without_streams_say_so() -> None:
    history = unstale.train(blobs(), "asgd", 2, epochs=1, batch_size=10).history
    assert (history["stream"] == -1).all()
    assert not history["reset"].any()
