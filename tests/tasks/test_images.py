from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unstale.errors import ArgumentError, DataError, UnknownNameError
from unstale.tasks import fashion_mnist, read_idx
from unstale.tasks.images import _DEBIAN_ROOT, _FILES
from unstale.tasks.inputs import generator
from unstale.tasks.transforms import PadCropFlip

NAMES = [name for pair in _FILES.values() for name in pair]


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(path: Path, raw: bytes) -> Path:
    path.write_bytes(gzip.compress(raw, 1))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for (images, labels), size in zip(_FILES.values(), (12, 6), strict=True):
        write(tmp_path / images, idx(rng.integers(0, 256, (size, 28, 28), np.uint8)))
        write(tmp_path / labels, idx((np.arange(size) % 4).astype(np.uint8)))
    return tmp_path


def test_read_idx_by_hand(tmp_path: Path) -> None:
    raw = b"\x00\x00\x08\x02" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x03" + bytes([1, 2, 3, 4, 5, 255])
    array = read_idx(write(tmp_path / "a.gz", raw))
    assert array.dtype == np.uint8
    assert array.tolist() == [[1, 2, 3], [4, 5, 255]]


GOOD = idx(np.arange(6, dtype=np.uint8))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "must start with an IDX magic number 00 00 .. .., got nothing"),
        (b"\x00\x01" + GOOD[2:], "must start with an IDX magic number 00 00 .. .., got 00 01 08 01"),
        (b"\x00\x00\x0d" + GOOD[3:], r"must hold unsigned bytes \(IDX type code 0x08\), got type code 0x0d"),
        (b"\x00\x00\x08\x00", "must name 1 to 8 sizes after the magic number, got 0 sizes"),
        (GOOD[:6], "must name 1 to 8 sizes after the magic number, got 1 sizes in 6 bytes"),
        (b"\x00\x00\x08\xff" + b"\xff" * 1020, "must name 1 to 8 sizes after the magic number, got 255 sizes"),
        (
            b"\x00\x00\x08\x03" + b"\xff" * 12 + b"x",
            "must hold at most 2,147,483,648 bytes, but claims the shape .4294967295, ",
        ),
        (
            b"\x00\x00\x08\x03" + b"\x00" * 4 + b"\xff" * 8,
            "must hold at most 2,147,483,648 bytes, but claims the shape .0, ",
        ),
        (GOOD[:-1], r"must hold 6 bytes for its shape \(6,\), got 5"),
        (GOOD + b"\x00", r"must hold 6 bytes for its shape \(6,\), got more"),
    ],
)
def test_read_idx_refuses(tmp_path: Path, raw: bytes, message: str) -> None:
    with pytest.raises(DataError, match=r"bad\.gz " + message):
        read_idx(write(tmp_path / "bad.gz", raw))


@pytest.mark.parametrize(
    ("claimed", "held"), [((2**31 - 1,), 6), ((6,), 2**26), ((2**15, 2**15), 2**20)], ids=["claims", "swells", "both"]
)
def test_neither_a_claim_nor_a_swelling_file_fills_the_memory(
    tmp_path: Path, claimed: tuple[int, ...], held: int
) -> None:
    raw = bytes([0, 0, 8, len(claimed)]) + struct.pack(f">{len(claimed)}I", *claimed) + bytes(held)
    path = write(tmp_path / "bad.gz", raw)
    del raw
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"bad\.gz must hold \d+ bytes for its shape"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_read_idx_refuses_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "bad.gz"
    whole = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)))
    flipped = bytearray(whole)
    flipped[100] ^= 0xFF
    for raw in (whole[:-20], whole[:2000], bytes(flipped), b"not gzip at all"):
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"bad\.gz cannot be read as gzip"):
            read_idx(path)
    with pytest.raises(DataError, match=r"none\.gz cannot be read"):
        read_idx(tmp_path / "none.gz")


def test_fashion_mnist_from_small_files(root: Path) -> None:
    task = fashion_mnist("mlp", root, width=4)
    inputs, target = task.batch(np.arange(12))
    raw = read_idx(root / NAMES[0]).astype(np.float64)
    assert (inputs.shape, inputs.dtype) == ((12, 1, 28, 28), torch.float32)
    np.testing.assert_allclose(inputs[:, 0].numpy(), (raw - raw.mean()) / raw.std(), rtol=1e-5, atol=1e-6)
    assert (target.dtype, target.tolist()) == (torch.int64, [0, 1, 2, 3] * 3)
    assert (task.train_size, task.test_size) == (12, 6)
    assert task.chance == pytest.approx(100 / 3)
    assert task.build(0)(inputs).shape == (12, 10)


def test_subsets_are_nested_and_standardised_by_themselves(root: Path) -> None:
    images, labels = read_idx(root / NAMES[0]), read_idx(root / NAMES[1])
    order = np.random.default_rng(0).permutation(12)
    for size in (3, 5, 12):
        task = fashion_mnist("mlp", str(root), train_size=size, test_size=2)
        inputs, target = task.batch(np.arange(size))
        assert (task.train_size, task.test_size) == (size, 2)
        assert target.tolist() == labels[order[:size]].tolist()
        raw = images[order[:size]].astype(np.float64)
        np.testing.assert_allclose(inputs[:, 0].numpy(), (raw - raw.mean()) / raw.std(), rtol=1e-5, atol=1e-6)


def test_pictures_of_one_grey_are_not_divided_by_zero(root: Path) -> None:
    write(root / NAMES[0], idx(np.full((12, 28, 28), 7, np.uint8)))
    assert not fashion_mnist("mlp", root).batch(np.arange(12))[0].any()


def test_missing_files_are_named(root: Path) -> None:
    (root / NAMES[2]).unlink()
    with pytest.raises(DataError) as caught:
        fashion_mnist(root=root)
    assert all(
        word in str(caught.value) for word in [*NAMES, str(root), "dataset-fashion-mnist", f"missing: {NAMES[2]}"]
    )


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (NAMES[0], np.zeros((12, 8, 8)), r"must hold pictures of shape \(n, 28, 28\)"),
        (NAMES[2], np.zeros((0, 28, 28)), r"must hold pictures of shape \(n, 28, 28\) with n ≥ 1"),
        (NAMES[1], np.zeros(11), r"must hold one label for each of 12 pictures, got \(11,\)"),
        (NAMES[3], np.zeros((6, 1)), r"must hold one label for each of 6 pictures, got \(6, 1\)"),
        (NAMES[1], np.arange(12), "must hold labels from 0 to 9, got 11"),
    ],
)
def test_files_that_do_not_fit_are_named(root: Path, name: str, array: NDArray[Any], message: str) -> None:
    write(root / name, idx(array.astype(np.uint8)))
    with pytest.raises(DataError, match=f"{name} {message}"):
        fashion_mnist(root=root)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_size": 0}, "train_size must be a whole number of at least 1, got 0"),
        ({"train_size": 13}, "train_size must be at most the 12 examples there are, got 13; None takes all"),
        ({"test_size": True}, "test_size must be a whole number"),
        ({"root": "/data\0/x"}, "root must be a path, without NUL characters"),
        ({"root": 3}, "root must be a path"),
        ({"width": 0}, "width must be a whole number of at least 1"),
    ],
)
def test_options_that_do_not_fit(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        fashion_mnist(**{"root": root, **options})


def test_training_pictures_can_be_augmented(root: Path) -> None:
    plain, augmented = fashion_mnist("mlp", root, width=2), fashion_mnist("wrn10_1", root, width=2, augment=True)
    assert "augment" not in plain.describe()
    assert plain.describe()["train"] == augmented.describe()["train"]
    before, after = (task.batch(np.arange(12), "cpu", (0, 0))[0] for task in (plain, augmented))
    assert torch.equal(before, augmented.batch(np.arange(12))[0])
    raw = read_idx(root / NAMES[0]).astype(np.float64)
    black = float(np.float32(-raw.mean() / raw.std()))
    assert torch.equal(after, PadCropFlip(4, black)(before, generator((0, 0))))
    with pytest.raises(ArgumentError, match="augment must be True or False, got 1"):
        fashion_mnist(root=root, augment=1)  # type: ignore[arg-type]


def test_unknown_model(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'vgg'"):
        fashion_mnist("vgg", root)


@pytest.mark.skipif(not Path(_DEBIAN_ROOT).is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_thing_is_pinned() -> None:
    task = fashion_mnist(train_size=2000, test_size=500)
    described = task.describe()
    assert (described["train"], described["test"]) == ("0f3fc37153619ab8", "815ded64a26121df")
    assert len(read_idx(Path(_DEBIAN_ROOT) / NAMES[1])) == 60_000
