from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import unstale
from tests.tasks.picture_files import Pixels, pixels, png, write_folders, write_parquet
from unstale.errors import ArgumentError, DataError
from unstale.tasks import Task, imagenet
from unstale.tasks.imagenet import STANDARDISE
from unstale.tasks.transforms import CentreCrop, RandomResizedCropFlip

SIZES = [(20, 30), (17, 12), (9, 9), (40, 11), (16, 16), (30, 20)]
TRAIN = [pixels(1, *size, seed=k)[0] for k, size in enumerate(SIZES)]
TEST = [pixels(1, *size, seed=9 + k)[0] for k, size in enumerate(SIZES[:4])]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def folders(root: Path) -> Path:
    write_folders(root / "train", {"n01": TRAIN[:3], "n02": TRAIN[3:]})
    write_folders(root / "val", {"n01": TEST[:3], "n02": TEST[3:]})
    return root


def parquet(root: Path) -> Path:
    names = {"picture": "image"}
    write_parquet(root / "data/train-00000-of-00002.parquet", [*map(png, TRAIN[:4])], [0, 0, 0, 1], **names)
    write_parquet(root / "data/train-00001-of-00002.parquet", [*map(png, TRAIN[4:])], [1, 1], **names)
    write_parquet(root / "data/validation-00000-of-00001.parquet", [*map(png, TEST)], [0, 0, 0, 1], **names)
    write_parquet(root / "data/test-00000-of-00001.parquet", [*map(png, TEST)], [-1] * 4, **names)  # has no labels
    return root


def small(root: Path, model: str = "mlp", augment: bool = True, test_size: int | None = None) -> Task:
    return imagenet(model, root, width=2, classes=2, size=8, augment=augment, test_size=test_size)


def tensors(pictures: list[Pixels]) -> list[torch.Tensor]:
    return [torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]


@pytest.mark.parametrize("write", [folders, parquet])
def test_pictures_are_decoded_when_asked_for_and_cropped_in_the_middle(tmp_path: Path, write: object) -> None:
    task = small(write(tmp_path))  # type: ignore[operator]
    assert (task.train_size, task.test_size, task.chance) == (6, 4, 75.0)
    order = np.array([5, 0, 3, 0])
    inputs, targets = task.batch(order)
    assert targets.tolist() == [1, 0, 1, 0]
    expected = CentreCrop(8, 9, STANDARDISE)([tensors(TRAIN)[k] for k in order])
    assert torch.equal(inputs, expected)
    assert (inputs.shape, inputs.dtype) == ((4, 3, 8, 8), torch.float32)
    assert STANDARDISE.mean[0] / 255 == pytest.approx(0.485)
    assert STANDARDISE.std[2] / 255 == pytest.approx(0.225)


@pytest.mark.parametrize("write", [folders, parquet])
def test_training_crops_at_random(tmp_path: Path, write: object) -> None:
    task = small(write(tmp_path))  # type: ignore[operator]
    inputs, _ = task.batch(np.arange(6), "cpu", (3, 7))
    from unstale.tasks.inputs import generator

    assert torch.equal(inputs, STANDARDISE(RandomResizedCropFlip(8)(tensors(TRAIN), generator((3, 7)))))
    assert not torch.equal(inputs, task.batch(np.arange(6), "cpu", (3, 8))[0])
    plain = small(tmp_path, augment=False)
    assert torch.equal(plain.batch(np.arange(6), "cpu", (3, 7))[0], task.batch(np.arange(6))[0])


def test_it_trains_evaluates_and_travels(tmp_path: Path) -> None:
    task = small(parquet(tmp_path), "resnet50", test_size=3)
    again = pickle.loads(pickle.dumps(task))
    assert json.loads(json.dumps(task.describe())) == again.describe()
    runs = [unstale.train(t, "ga", workers=2, epochs=1, batch_size=2, strategy="sequential") for t in (task, again)]
    assert runs[0].history.equals(runs[1].history)
    assert runs[0].status == "finished"


def test_content_is_told_apart_by_labels_names_and_sizes(tmp_path: Path) -> None:
    first = small(folders(tmp_path)).describe()
    assert first["train"] != first["test"]
    assert small(tmp_path).describe() == first
    path = tmp_path / "train" / "n01" / "0.png"
    path.write_bytes(png(TRAIN[1]))
    assert small(tmp_path).describe()["train"] != first["train"]
    assert small(tmp_path, test_size=2).describe()["test"] != first["test"]


def test_a_changed_parquet_file_is_read_again(tmp_path: Path) -> None:
    before = small(parquet(tmp_path)).batch(np.arange(2))[0]
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", [*map(png, TRAIN[1:5])], [0, 0, 0, 1], "image")
    assert not torch.equal(small(tmp_path).batch(np.arange(2))[0], before)


def test_a_picture_that_does_not_decode_is_named_when_it_is_met(tmp_path: Path) -> None:
    path = folders(tmp_path / "a") / "train/n02/1.png"
    path.write_bytes(path.read_bytes()[:60])
    task = small(tmp_path / "a")
    task.batch(np.arange(4))
    with pytest.raises(DataError, match=r"train/n02/1.png cannot be decoded as a picture"):
        task.batch(np.arange(5))
    path.unlink()
    with pytest.raises(DataError, match=r"1.png cannot be read .No such file"):
        task.batch(np.arange(5))
    raw = [png(TRAIN[4]), b"\x89PNG\r\n\x1a\n" + b"0" * 40]
    write_parquet(parquet(tmp_path / "b") / "data/train-00001-of-00002.parquet", raw, [1, 1], "image")
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet, row 1, cannot be decoded as a picture"):
        small(tmp_path / "b").batch(np.array([4, 5]))


def test_paths_inside_of_a_file_are_not_followed(tmp_path: Path) -> None:
    write_parquet(parquet(tmp_path) / "data/train-00001-of-00002.parquet", [None, png(TRAIN[5])], [1, 1], "image")
    with pytest.raises(DataError, match=r"row 0, cannot be decoded as a picture \(it is empty\)"):
        small(tmp_path).batch(np.array([4]))


def test_the_number_of_classes_is_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train must hold 1000 folders, one a class, got 2 \(n01, n02\)"):
        imagenet(root=folders(tmp_path))
    with pytest.raises(DataError, match=r"train-00000-of-00002.parquet must hold labels from 0 to 0, got 1"):
        imagenet(root=parquet(tmp_path / "hub"), classes=1)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        imagenet(root=tmp_path)
    for words in (str(tmp_path), "validation-*.parquet", "ILSVRC/imagenet-1k", "155 GB", "val/CLASS/", "--data"):
        assert words in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file, which is no folder"):
        imagenet(root=tmp_path / "file")


def test_without_datasets_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = small(parquet(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    for use in (imagenet, lambda: task.batch(np.arange(1))):
        with pytest.raises(DataError, match=r"pip install 'unstale\[data\]'"):
            use()
    small(folders(tmp_path / "folders")).batch(np.arange(1))


def test_a_path_that_no_system_has_is_refused() -> None:
    with pytest.raises(ArgumentError, match="root must be a path, without NUL characters"):
        imagenet(root="/data/a\0b")


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="size must be a whole number of at least 1, got 0"):
        imagenet(root=tmp_path, size=0)
    with pytest.raises(ArgumentError, match="train_size must be at most the 6 examples there are, got 7"):
        imagenet("mlp", folders(tmp_path), classes=2, size=4, train_size=7)
