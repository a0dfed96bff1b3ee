from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from unstale import tasks
from unstale.errors import ArgumentError, UnknownNameError
from unstale.tasks.scores import commonest_class_share


def test_names_and_catalogue() -> None:
    pictures = ["cifar10", "cifar100", "digits", "fashion_mnist", "imagenet"]
    made_up = ["quadratic", "synthetic_images", "synthetic_text"]
    assert tasks.names() == [*pictures, *made_up, "text", "wikitext"]
    assert list(tasks.catalogue()) == tasks.names()
    for summary, source in tasks.catalogue().values():
        assert 0 < len(summary) <= 70
        assert "\n" not in summary
        assert source


def test_public_names_are_sorted_and_there() -> None:
    assert sorted(tasks.__all__) == tasks.__all__
    assert all(hasattr(tasks, name) for name in tasks.__all__)


def test_get() -> None:
    assert tasks.get("quadratic", dimensions=3).describe() == tasks.quadratic(dimensions=3).describe()
    assert tasks.get("digits", model="resnet8", width=2).model_name == "resnet8"


def test_get_refuses() -> None:
    with pytest.raises(UnknownNameError, match="unknown task 'digit'; did you mean digits"):
        tasks.get("digit")
    with pytest.raises(ArgumentError, match="options of task 'digits' must be among model, width; got size, wide"):
        tasks.get("digits", wide=3, size=1)


def test_importing_needs_torch_and_numpy_only() -> None:
    heavy = (
        "{'sklearn', 'pandas', 'scipy', 'matplotlib', 'pyarrow', 'datasets', 'huggingface_hub', 'PIL', 'pydoc_data'}"
    )
    code = f"import sys, unstale.tasks; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_accuracy() -> None:
    output = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 2.0]])
    assert float(tasks.accuracy(output, torch.tensor([0, 1, 1]))) == pytest.approx(200 / 3, abs=1e-12)
    assert tasks.accuracy(output, torch.tensor([0, 1, 0])).shape == ()


def test_commonest_class_share() -> None:
    assert commonest_class_share(torch.tensor([2, 0, 2, 1])) == 50.0
