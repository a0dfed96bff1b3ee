"""What happens to a batch depends on the run's seed and the batch's number, and on nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import unstale
from unstale.errors import ArgumentError
from unstale.tasks import Batches, Task
from unstale.tasks.inputs import generator
from unstale.tasks.transforms import PadCropFlip, Standardise

INPUTS = torch.arange(24.0).reshape(12, 2)
TARGETS = torch.arange(12) % 2
DATA = INPUTS, TARGETS


def noisy(inputs: Tensor, random: np.random.Generator) -> Tensor:
    return inputs + torch.from_numpy(random.random(tuple(inputs.shape)).astype(np.float32)).to(inputs.device)


def task(**options: Any) -> Task:
    return Task(lambda: nn.Linear(2, 2), cross_entropy, DATA, DATA, **options)


def test_a_batch_has_its_own_numbers() -> None:
    mine, indices = task(augment=noisy), np.array([3, 1])
    first = mine.batch(indices, "cpu", (0, 5))[0]
    assert torch.equal(first, noisy(INPUTS[[3, 1]], generator((0, 5))))
    assert torch.equal(first, mine.batch(indices, torch.device("cpu"), (0, 5))[0])
    others = [mine.batch(indices, "cpu", identity)[0] for identity in ((0, 6), (1, 5), (5, 0))]
    assert all(not torch.equal(first, other) for other in others)
    assert torch.equal(mine.batch(indices)[0], INPUTS[[3, 1]])


def test_the_numbers_are_pinned() -> None:
    assert generator((3, 7)).integers(0, 1000, 4).tolist() == [548, 212, 924, 310]


class Watched:
    """Notes what each batch was, and the first number that it got."""

    def __init__(self) -> None:
        self.seen: dict[tuple[float, ...], set[float]] = {}

    def __call__(self, inputs: Tensor, random: np.random.Generator) -> Tensor:
        self.seen.setdefault(tuple(inputs[:, 0].tolist()), set()).add(float(random.random()))
        return inputs


def test_whoever_computes_it_and_however() -> None:
    batches = Batches(12, 4, seed=3)
    expected = {tuple(INPUTS[batches.indices(k), 0].tolist()): {float(generator((3, k)).random())} for k in range(6)}
    for method, workers, strategy in (
        ("asgd", 1, "sequential"),
        ("dana_ga", 3, "sequential"),
        ("sync", 2, "sequential"),
        ("ga", 3, "threads"),
        ("ga", 4, "batched(lanes=2)"),
        ("ga", 4, "batched(lanes=2, threads=2)"),
    ):
        watch = Watched()
        unstale.train(task(augment=watch), method, workers, epochs=2, batch_size=4, seed=3, strategy=strategy)
        assert watch.seen == expected, (method, workers, strategy)


def test_every_strategy_sees_the_same_pictures() -> None:
    runs = [
        unstale.train(task(augment=noisy), "ga", 4, epochs=2, batch_size=3, lr=0.01, strategy=strategy)
        for strategy in ("sequential", "threads", "batched(lanes=2)")
    ]
    assert [run.config["strategy"] for run in runs] == ["sequential", "threads(threads=2)", "batched(lanes=2)"]
    for run in runs[1:]:
        np.testing.assert_allclose(run.history["loss"], runs[0].history["loss"], rtol=1e-5)


def test_a_change_that_changes_nothing_is_the_same_run_to_the_bit() -> None:
    """Dropout included: its random numbers are torch's, and not those of the augmentation."""

    def run(**options: Any) -> unstale.Run:
        model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        mine = Task(model, cross_entropy, DATA, DATA, name="same", **options)
        return unstale.train(mine, "dana_ga", 3, epochs=2, batch_size=5, lr=0.01)

    torch.manual_seed(0)
    plain = run()
    torch.manual_seed(0)
    changed = run(augment=lambda inputs, random: inputs + 0 * float(random.random()), prepare=torch.clone)
    assert plain.history.equals(changed.history)
    assert plain.evaluations.equals(changed.evaluations)


def test_what_is_prepared_is_prepared_everywhere_and_after_the_change() -> None:
    pictures = torch.arange(12, dtype=torch.uint8).reshape(6, 2)
    data = pictures, TARGETS[:6]
    mine = Task(lambda: nn.Linear(2, 2), cross_entropy, data, data, prepare=lambda x: x.float() / 2, augment=noisy)
    plain = Task(lambda: nn.Linear(2, 2), cross_entropy, (pictures / 2, data[1]), (pictures / 2, data[1]))
    assert torch.equal(mine.batch(np.arange(3))[0], pictures[:3] / 2)
    assert torch.equal(mine.batch(np.arange(3), "cpu", (0, 0))[0], noisy(pictures[:3], generator((0, 0))).float() / 2)
    assert mine.evaluate(mine.build(0)) == plain.evaluate(plain.build(0))


def test_statistics_are_recalibrated_without_the_change() -> None:
    watch = Watched()
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    mine = Task(model, cross_entropy, DATA, DATA, augment=watch)
    unstale.train(mine, "ga", 2, epochs=1, batch_size=4, batch_norm="recalibrate", strategy="sequential")
    assert len(watch.seen) == 3
    assert all(len(numbers) == 1 for numbers in watch.seen.values())


def test_it_is_part_of_the_configuration_only_where_there_is_one() -> None:
    assert not {"augment", "prepare"} & set(task().describe())
    described = task(augment=PadCropFlip(2), prepare=Standardise((1.0,), (2.0,))).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["augment"] == {"type": "PadCropFlip", "padding": 2, "fill": 0.0}
    assert described["prepare"] == {"type": "Standardise", "mean": [1.0], "std": [2.0]}


def test_examples_to_evaluate_at_a_time() -> None:
    sizes: list[int] = []

    def score(output: Tensor, target: Tensor) -> float:
        sizes.append(len(target))
        return 0.0

    mine = task(score=score, eval_batch_size=5)
    mine.evaluate(mine.build(0))
    mine.evaluate(mine.build(0), batch_size=12)
    assert sizes == [5, 5, 2, 12]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": 3}, "augment must be a function, or None, got int"),
        ({"prepare": "x"}, "prepare must be a function, or None, got str"),
        ({"eval_batch_size": 0}, "eval_batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        task(**options)
