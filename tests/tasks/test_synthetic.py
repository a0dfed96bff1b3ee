from __future__ import annotations

import numpy as np
import pytest
import torch

import unstale
from unstale.errors import ArgumentError, UnknownNameError
from unstale.tasks import synthetic_images
from unstale.tasks.synthetic import Noise


def test_by_default_it_is_as_large_as_imagenet_and_takes_no_memory() -> None:
    task = synthetic_images()
    assert (task.train_size, task.model_name, task.name) == (1_281_167, "resnet50", "synthetic_images")
    inputs, targets = task.batch(np.array([0, 1_281_166]))
    assert (inputs.shape, inputs.dtype, targets.dtype) == ((2, 3, 224, 224), torch.float32, torch.int64)
    assert float(inputs.mean()) == pytest.approx(0, abs=0.02)
    assert float(inputs.std()) == pytest.approx(1, abs=0.02)


def test_a_picture_depends_on_seed_part_and_index_alone() -> None:
    make = {"model": "mlp", "shape": (1, 4, 4), "classes": 5, "width": 2}
    task, longer, other = (synthetic_images(n=n, seed=s, **make) for n, s in ((50, 0), (90, 0), (50, 1)))  # type: ignore[arg-type]
    inputs, targets = task.batch(np.arange(50))
    assert torch.equal(inputs, longer.batch(np.arange(50))[0])
    assert torch.equal(inputs[[7, 3]], task.batch(np.array([7, 3]))[0])
    assert not torch.equal(inputs, other.batch(np.arange(50))[0])
    assert len(torch.unique(inputs.flatten(1), dim=0)) == 50
    assert set(targets.tolist()) == set(range(5))
    assert task.describe()["train"] != task.describe()["test"]


def test_full_models_train_on_it() -> None:
    for model, shape in (("resnet50", (3, 64, 64)), ("wrn16_4", (3, 32, 32))):
        task = synthetic_images(model, shape, classes=10, n=8, test_size=1)
        run = unstale.train(task, "dana_ga", workers=2, epochs=1, batch_size=4, lr=0.01, strategy="sequential")
        assert (len(run.history), run.diverged) == (2, False)
        assert np.isfinite(run.history["loss"]).all()


def test_refusals() -> None:
    with pytest.raises(ArgumentError, match=r"shape must be \(channels, height, width\), got 3"):
        synthetic_images(shape=3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="n must be a whole number of at least 1, got 0"):
        synthetic_images(n=0)
    with pytest.raises(UnknownNameError, match="unknown model 'vgg'"):
        synthetic_images("vgg")
    with pytest.raises(IndexError):
        Noise(2, (1,), 1, seed=0, part=0)[2]
