from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.tasks.picture_files import Pixels, pixels, png, records, write_folders, write_parquet
from unstale.errors import ArgumentError, DataError, UnknownNameError
from unstale.tasks import Task, cifar, cifar10, cifar100
from unstale.tasks.batches import fingerprint

PUBLISHED = cifar._TEN, cifar._HUNDRED
TRAIN, TEST = pixels(10, seed=1), pixels(4, seed=2)
LABELS, TEST_LABELS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [0, 9, 9, 2]


@pytest.fixture(autouse=True)
def _as_few_records_as_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    ten, hundred = PUBLISHED
    few = replace(ten, train=dict.fromkeys(ten.train, 2), test={"test_batch.bin": 4})
    monkeypatch.setattr(cifar, "_TEN", few)
    monkeypatch.setattr(cifar, "_HUNDRED", replace(hundred, train={"train.bin": 10}, test={"test.bin": 4}))


def binary(root: Path) -> Path:
    for number in range(5):
        two = slice(2 * number, 2 * number + 2)
        (root / f"data_batch_{number + 1}.bin").write_bytes(records(TRAIN[two], LABELS[two]))
    (root / "test_batch.bin").write_bytes(records(TEST, TEST_LABELS))
    return root


def parquet(root: Path, label: str = "label", picture: str = "img") -> Path:
    names = {"picture": picture, "label": label}
    write_parquet(root / "plain_text/train-00000-of-00002.parquet", [*map(png, TRAIN[:7])], LABELS[:7], **names)
    write_parquet(root / "plain_text/train-00001-of-00002.parquet", [*map(png, TRAIN[7:])], LABELS[7:], **names)
    write_parquet(root / "plain_text/test-00000-of-00001.parquet", [*map(png, TEST)], TEST_LABELS, **names)
    return root


def folders(root: Path) -> Path:
    for part, pictures, labels in (("train", TRAIN, LABELS), ("test", TEST, TEST_LABELS)):
        by_class: dict[str, list[Pixels]] = {f"class {n}": [] for n in range(10)}
        for picture, label in zip(pictures, labels, strict=True):
            by_class[f"class {label}"].append(picture)
        write_folders(root / part, {name: found or [pictures[0]] for name, found in by_class.items()})
    return root


def content(task: Task, size: int = 10) -> tuple[torch.Tensor, list[int]]:
    inputs, targets = task.batch(np.arange(size))
    return inputs, targets.tolist()


def standardised(pictures: Pixels) -> torch.Tensor:
    values = pictures.astype(np.float64)
    out = (values - TRAIN.mean((0, 1, 2))) / TRAIN.std((0, 1, 2))
    return torch.tensor(out.transpose(0, 3, 1, 2), dtype=torch.float32)


@pytest.mark.parametrize("write", [binary, parquet])
def test_every_format_gives_the_same_task(tmp_path: Path, write: Any) -> None:
    task = cifar10("mlp", write(tmp_path), width=4)
    inputs, targets = content(task)
    assert targets == LABELS
    assert (task.train_size, task.test_size, task.chance) == (10, 4, 50.0)
    torch.testing.assert_close(inputs, standardised(TRAIN), rtol=1e-5, atol=1e-5)
    described = task.describe()
    assert json.loads(json.dumps(described)) == described
    stored = torch.from_numpy(TRAIN.transpose(0, 3, 1, 2).copy()), torch.tensor(LABELS)
    assert described["train"] == fingerprint(zip(("inputs", "targets"), stored, strict=True))


def test_binary_files_are_also_found_in_the_folder_that_tar_makes(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    binary(tmp_path / "cifar-10-batches-bin")
    assert content(cifar10("mlp", str(tmp_path), width=2))[1] == LABELS


def test_folders_of_pictures(tmp_path: Path) -> None:
    task = cifar10("mlp", folders(tmp_path), width=2)
    inputs, targets = content(task, task.train_size)
    assert targets == sorted([*LABELS, *({*range(10)} - {*LABELS})])
    assert task.train_size == 13
    first = targets.index(3)
    raw = inputs[first] - standardised(TRAIN[:1])[0]
    assert float(raw.std()) < 0.1  # the same picture, standardised by a few others more


def test_pixels_are_kept_as_bytes(tmp_path: Path) -> None:
    task = cifar10("mlp", binary(tmp_path), width=2)
    inputs, _ = task._train.take(np.arange(10))
    assert inputs.dtype == torch.uint8
    assert np.array_equal(inputs.numpy(), TRAIN.transpose(0, 3, 1, 2))


def test_cifar100_takes_the_fine_labels(tmp_path: Path) -> None:
    coarse, fine = [19] * 10, [99, *range(9)]
    (tmp_path / "train.bin").write_bytes(records(TRAIN, coarse, fine))
    (tmp_path / "test.bin").write_bytes(records(TEST, coarse[:4], fine[:4]))
    task = cifar100("mlp", tmp_path, width=2)
    inputs, targets = content(task)
    assert targets == fine
    torch.testing.assert_close(inputs, standardised(TRAIN), rtol=1e-5, atol=1e-5)
    assert task.build(0)(inputs).shape == (10, 100)
    other = parquet(tmp_path / "hub", label="fine_label")
    assert content(cifar100("wrn10_1", other, width=1))[1] == LABELS


def test_subsets_and_models(tmp_path: Path) -> None:
    task = cifar10("wrn10_1", binary(tmp_path), train_size=4, test_size=3, width=2)
    order = np.random.default_rng(0).permutation(10)[:4]
    assert content(task, 4)[1] == [LABELS[k] for k in order]
    assert (task.test_size, task.model_name) == (3, "wrn10_1")
    assert task.evaluate(task.build(0)).loss > 0
    again = pickle.loads(pickle.dumps(task))
    assert again.describe() == task.describe()


def test_augmentation_is_on_and_can_be_off(tmp_path: Path) -> None:
    root = binary(tmp_path)
    on, off = cifar10("mlp", root, width=2), cifar10("mlp", root, width=2, augment=False)
    assert on.describe()["augment"] == {"type": "PadCropFlip", "padding": 4, "fill": 0.0}
    assert "augment" not in off.describe()
    plain = on.batch(np.arange(10))[0]
    assert torch.equal(plain, off.batch(np.arange(10), "cpu", (0, 0))[0])
    assert not torch.equal(plain, on.batch(np.arange(10), "cpu", (0, 0))[0])
    # Black is added before standardising.
    black = on.prepare(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)).flatten()  # type: ignore[misc]
    assert torch.equal(on.batch(np.arange(10), "cpu", (0, 3))[0].amin((0, 2, 3)), black)


# --- hostile files


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "data_batch_1", "cifar-10-batches-py/data_batch_1"])
@pytest.mark.parametrize("direct", [False, True])
def test_pickles_are_never_opened(tmp_path: Path, monkeypatch: Any, name: str, direct: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data" / name
    path.parent.mkdir(parents=True)
    trap = pickle.dumps(Trap())
    if name.endswith(".gz"):
        with tarfile.open(path, "w:gz") as tar:
            info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
            info.size = len(trap)
            tar.addfile(info, io.BytesIO(trap))
    else:
        path.write_bytes(trap)
    with pytest.raises(DataError, match=r"pickles.*never opened; unpack cifar-10-binary.tar.gz.*uoft-cs/cifar10"):
        cifar10(root=tmp_path / "data" / name.split("/")[0] if direct else tmp_path / "data")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("data_batch_2.bin", lambda raw: raw[:-1], "must hold 2 records of 3,073 bytes, got 6,145 bytes"),
        (
            "data_batch_2.bin",
            lambda raw: raw[:3073],
            "must hold 2 records of 3,073 bytes, got 3,073 bytes, which are 1 rec",
        ),
        (
            "test_batch.bin",
            lambda raw: raw + raw,
            "must hold 4 records of 3,073 bytes, got 24,584 bytes, which are 8 rec",
        ),
        ("test_batch.bin", lambda raw: b"", "must hold 4 records of 3,073 bytes, got 0 bytes"),
        ("data_batch_5.bin", lambda raw: b"\x0a" + raw[1:], "must hold labels from 0 to 9, got 10"),
        ("data_batch_3.bin", None, "cannot be read .No such file or directory.; unpack cifar-10-binary.tar.gz again"),
        ("test_batch.bin", None, "cannot be read"),
    ],
)
def test_damaged_binary_files_are_named(tmp_path: Path, name: str, change: Any, message: str) -> None:
    path = binary(tmp_path) / name
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"{name} {message}"):
        cifar10(root=tmp_path)


GOOD = png(TRAIN[0])


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        ([GOOD, GOOD], [0, 10], "must hold labels from 0 to 9, got 10"),
        ([GOOD, GOOD], [-1, 1], "must hold labels from 0 to 9, got -1"),
        ([GOOD, GOOD], [0, None], "must have a label in each row of 'label', got 1 empty ones"),
        ([], [], "must hold at least one row, got none"),
        ([GOOD, GOOD[:-30]], [0, 1], ", row 1, cannot be decoded as a picture"),
        ([GOOD, b"GIF89a" + GOOD], [0, 1], ", row 1, cannot be decoded as a picture"),
        ([GOOD, None], [0, 1], r", row 1, cannot be decoded as a picture .it is empty."),
        ([GOOD, b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n"], [0, 1], ", row 1, cannot be decoded"),
        ([GOOD, png(pixels(1, 32, 33)[0])], [0, 1], ", row 1, must be a picture of 32 x 32 pixels, got 33 x 32"),
    ],
)
def test_hostile_parquet_is_named(tmp_path: Path, pictures: Any, labels: Any, message: str) -> None:
    parquet(tmp_path)
    path = write_parquet(tmp_path / "plain_text/train-00001-of-00002.parquet", pictures, labels)
    with pytest.raises(DataError, match=f"{path.name}{' ' if message[0] != ',' else ''}{message}"):
        cifar10(root=tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"img": [GOOD], "label": [1]},
            r"must have a column image or img of a struct .bytes: binary, path: string., got img: binary",
        ),
        ({"text": ["x"], "label": [1]}, "must have a column image or img.*got text: string, label: int64"),
        ({"img": [{"bytes": "text", "path": "x"}], "label": [1]}, "must have a column image or img"),
        ({"img": [{"bytes": GOOD, "path": "x"}], "label": ["cat"]}, "must have a column label of whole numbers"),
        ({"img": [{"bytes": GOOD, "path": "x"}], "fine": [1]}, "must have a column label of whole numbers"),
    ],
)
def test_parquet_of_another_schema_is_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    parquet(tmp_path)
    path = tmp_path / "plain_text/test-00000-of-00001.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError, match=f"{path.name} {message}"):
        cifar10(root=tmp_path)


@pytest.mark.parametrize(
    "change", [lambda raw: raw[:-40], lambda raw: b"PAR1" + raw[:200], lambda raw: b"", bytes.lower]
)
def test_damaged_parquet_is_named(tmp_path: Path, change: Any) -> None:
    path = parquet(tmp_path) / "plain_text/train-00000-of-00002.parquet"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=f"{path.name} cannot be read as Parquet"):
        cifar10(root=tmp_path)


def test_pages_that_do_not_decompress_are_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path) / "plain_text/train-00000-of-00002.parquet"
    raw = bytearray(path.read_bytes())
    raw[2000:4000] = bytes(2000)
    path.write_bytes(raw)
    with pytest.raises(DataError, match="plain_text"):
        cifar10(root=tmp_path)


def test_columns_of_two_names_and_files_in_two_places_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path)
    write_parquet(tmp_path / "plain_text/train-00001-of-00002.parquet", [GOOD], [0], picture="image")
    with pytest.raises(DataError, match="plain_text must have one name for pictures in all files"):
        cifar10(root=tmp_path)
    write_parquet(tmp_path / "other/train-00000-of-00001.parquet", [GOOD], [0])
    with pytest.raises(DataError, match=r"holds train-\*.parquet in several folders.*other.*plain_text; pass one"):
        cifar10(root=tmp_path)


def test_folders_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="train must hold 10 folders, one a class, got none"):
        cifar10(root=tmp_path)
    for number in range(10):
        (tmp_path / "train" / str(number)).mkdir()
    with pytest.raises(DataError, match=r"train/0 must hold pictures \(.bmp, .*got none"):
        cifar10(root=tmp_path)
    for number in range(10):
        (tmp_path / "train" / str(number) / "a.png").write_bytes(GOOD)
        (tmp_path / "test" / f"x{number}").mkdir()
        (tmp_path / "test" / f"x{number}" / "a.png").write_bytes(b"no png")
    with pytest.raises(DataError, match="must hold the same folders, but differ in 0, 1, 2"):
        cifar10(root=tmp_path)
    for number in range(10):
        (tmp_path / "test" / f"x{number}").rename(tmp_path / "test" / str(number))
    with pytest.raises(DataError, match=r"test/0/a.png cannot be decoded as a picture"):
        cifar10(root=tmp_path)


def test_the_published_numbers_of_records() -> None:
    """Krizhevsky 2009: 50,000 and 10,000; a file that is cut between two records is no smaller data set."""
    for kind in PUBLISHED:
        assert (sum(kind.train.values()), sum(kind.test.values())) == (50_000, 10_000)


def test_a_file_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    path = binary(tmp_path) / "data_batch_4.bin"
    with path.open("r+b") as file:
        file.truncate(2**40)  # takes no place on the disk
    with pytest.raises(DataError, match=r"data_batch_4\.bin must hold 2 records .*, got 1,099,511,627,776 bytes"):
        cifar10(root=tmp_path)


@pytest.mark.parametrize("kind", ["link", "loop", "pipe", "folder"])
def test_what_is_called_a_picture_and_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    strange = folders(tmp_path) / "train" / "class 4" / "z.png"
    make = {
        "link": lambda: strange.symlink_to(tmp_path / "nothing"),
        "loop": lambda: strange.symlink_to(strange),
        "pipe": lambda: os.mkfifo(strange),
        "folder": lambda: strange.mkdir(),
    }
    make[kind]()
    with pytest.raises(DataError, match=r"class 4/z\.png (must be a file, but is|cannot be read .Too many levels)"):
        cifar10(root=tmp_path)


def test_links_to_pictures_are_pictures(tmp_path: Path) -> None:
    folders(tmp_path)
    before = cifar10("mlp", tmp_path).train_size
    linked = tmp_path / "train" / "class 4" / "z.png"
    linked.symlink_to(tmp_path / "train" / "class 4" / "0.png")
    assert cifar10("mlp", tmp_path).train_size == before + 1


def test_a_class_folder_that_leads_nowhere_is_missing(tmp_path: Path) -> None:
    folder = folders(tmp_path) / "train" / "class 4"
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError, match="train must hold 10 folders, one a class, got 9"):
        cifar10(root=tmp_path)


def test_a_picture_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    parquet(tmp_path)
    claim = bytearray(GOOD)
    claim[16:24] = (9000).to_bytes(4, "big") * 2
    claim[29:33] = zlib.crc32(claim[12:29]).to_bytes(4, "big")
    write_parquet(tmp_path / "plain_text/test-00000-of-00001.parquet", [bytes(claim)], [0])
    with pytest.raises(DataError, match=r"9000 x 9000 pixels; the most are 67,108,864"):
        cifar10(root=tmp_path)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError) as caught:
        cifar10(root=tmp_path)
    for words in (str(tmp_path), "train-*.parquet", "uoft-cs/cifar10", "144 MB", "cifar-10-binary.tar.gz", "--data"):
        assert words in str(caught.value)
    with pytest.raises(DataError, match=r"CIFAR-100 is not in .*nowhere, which is not there.*uoft-cs/cifar100"):
        cifar100(root=tmp_path / "nowhere")
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        DataError, match="CIFAR-10 is not in the cache of Hugging Face's hub; download it with: hf down"
    ):
        cifar10()


def test_the_cache_of_the_hub_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "datasets--uoft-cs--cifar10"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    parquet(repository / "snapshots" / ("a" * 40))
    assert content(cifar10("mlp", width=2))[1] == LABELS


def test_wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'vgg'"):
        cifar10("vgg", tmp_path)
    with pytest.raises(ArgumentError, match="augment must be True or False, got 'no'"):
        cifar10(root=tmp_path, augment="no")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="train_size must be at most the 10 examples there are, got 11"):
        cifar10(root=binary(tmp_path), train_size=11)
