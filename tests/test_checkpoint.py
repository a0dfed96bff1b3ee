"""Checkpoints: what is written is read; what is damaged is named and passed over; nothing is lost or executed."""

from __future__ import annotations

import errno
import json
import math
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import unstale
from unstale import checkpoint
from unstale.checkpoint import MANIFEST, STATE, TENSORS, latest, numbers, tidy, write
from unstale.errors import ArgumentError, StoreError
from unstale.packed import pack, unpack

FILES = (MANIFEST, STATE, TENSORS)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inside: (
        st.lists(inside) | st.dictionaries(st.text() | st.sampled_from(["$tensor", "$float", "$object"]), inside)
    ),
)


def same(one: Any, other: Any) -> bool:
    """To the bit, and of the same types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return (one.dtype, one.shape, one.numpy().tobytes()) == (other.dtype, other.shape, other.numpy().tobytes())
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or math.copysign(1, one) * one == math.copysign(1, other) * other
    return bool(one == other)


def state(value: float = 1.0) -> dict[str, Any]:
    return {"theta": torch.full((5,), value), "now": value, "jobs": [1, 2]}


@settings(deadline=None)
@given(PLAIN)
def test_plain_values_of_every_kind_come_back(value: Any) -> None:
    document, tensors = pack(value)
    assert not tensors
    assert same(unpack(json.loads(json.dumps(document, allow_nan=False)), tensors.__getitem__), value)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                torch.arange(6.0).reshape(2, 3),
                torch.arange(6.0, dtype=torch.float64).reshape(2, 3).t(),
                torch.tensor(7),
                torch.tensor([], dtype=torch.int64),
                torch.empty(0, 3),
                torch.tensor([True, False, True]),
                torch.tensor([1, 2, 3], dtype=torch.uint8),
                torch.tensor([math.nan, -0.0, math.inf]),
                torch.ones(4).expand(3, 4),
                torch.arange(10.0)[3:5],
                torch.ones(1).as_strided((1,), (0,)),
                torch.empty(0, dtype=torch.float64).as_strided((0,), (0,)),
                torch.tensor(3.0, dtype=torch.float16),
            ]
        )
    )
)
def test_tensors_of_every_kind_come_back(tmp_path_factory: pytest.TempPathFactory, tensors: list[Tensor]) -> None:
    folder = tmp_path_factory.mktemp("kept")
    write(folder, 3, {"some": tensors}, 1)
    assert same(latest(folder), (3, {"some": tensors}))


def test_half_precision_and_shared_tensors_come_back(tmp_path: Path) -> None:
    half, shared = torch.tensor([1.5, 2.5], dtype=torch.bfloat16), torch.arange(4.0)
    write(tmp_path, 1, {"half": half, "one": shared, "two": shared, "part": shared[1:3]}, 1)
    found = latest(tmp_path)[1]
    assert torch.equal(found["half"], half)
    assert found["half"].dtype == torch.bfloat16
    assert found["one"] is found["two"]
    assert torch.equal(found["part"], shared[1:3])


def test_tensors_are_a_safetensors_file(tmp_path: Path) -> None:
    """Any program can read them."""
    path = write(tmp_path, 1, {"odd": torch.tensor([True]), **state(2.0)}, 1)
    found = safetensors.torch.load_file(path / TENSORS)
    assert {name.split()[1]: value.tolist() for name, value in found.items()} == {"odd": [True], "theta": [2.0] * 5}


def test_the_last_ones_stay(tmp_path: Path) -> None:
    for number in (0, 5, 10, 15, 20):
        write(tmp_path, number, state(), 3)
    assert numbers(tmp_path) == [10, 15, 20]
    # A run that goes on from an older one does not count what came after it.
    write(tmp_path, 12, state(), 3)
    assert numbers(tmp_path) == [10, 12]


def damage(path: Path, name: str, how: str) -> None:
    file = path / name
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "a pickle":
        file.write_bytes(pickle.dumps(Bomb()))
    else:
        middle = len(content) // 2
        changed = {"cut": content[:middle], "empty": b"", "longer": content + b"\0"}
        bit = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes(changed.get(how, bit))


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("code ran while loading",)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["gone", "cut", "empty", "longer", "one bit", "a pickle"])
def test_a_damaged_one_is_named_and_the_one_before_it_used(tmp_path: Path, name: str, how: str) -> None:
    write(tmp_path, 1, state(1.0), 3)
    path = write(tmp_path, 2, state(2.0), 3)
    damage(path, name, how)
    with pytest.warns(RuntimeWarning, match=rf"checkpoint {path} is damaged \(.+\); it is not used"):
        number, found = latest(tmp_path)
    assert same((number, found), (1, state(1.0)))


def test_a_bit_that_flips_anywhere_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, 2, state(2.0), 3)
    for name in (STATE, TENSORS):
        content = (path / name).read_bytes()
        for place in range(len(content)):
            (path / name).write_bytes(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
            with pytest.warns(RuntimeWarning, match=f"{name} is not what was written"), pytest.raises(StoreError):
                latest(tmp_path)
        (path / name).write_bytes(content)
    assert same(latest(tmp_path), (2, state(2.0)))


def test_where_all_are_damaged_or_none_is_there_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds no checkpoint"):
        latest(tmp_path / "nowhere")
    damage(write(tmp_path, 1, state(), 3), STATE, "cut")
    with (
        pytest.warns(RuntimeWarning, match="damaged"),
        pytest.raises(StoreError, match="all checkpoints in"),
    ):
        latest(tmp_path)


def test_one_of_another_format_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_FORMAT", 2)
    write(tmp_path, 1, state(), 3)
    monkeypatch.undo()
    with pytest.warns(RuntimeWarning, match="its format is 2"), pytest.raises(StoreError):
        latest(tmp_path)


@pytest.mark.parametrize("fails", [1, 2, 3, 4])
def test_a_full_disk_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
    """Whichever file or folder it is that does not get to the disk."""
    write(tmp_path, 1, state(1.0), 1)
    calls = []

    def fsync(place: int) -> None:
        calls.append(place)
        if len(calls) == fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=r"cannot write a checkpoint to .*: No space left on device; free some space"):
        write(tmp_path, 2, state(2.0), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["0000000001"]
    assert same(latest(tmp_path), (1, state(1.0)))


def test_what_a_killed_process_leaves_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    shutil.copytree(write(tmp_path, 1, state(1.0), 3), tmp_path / ".writing-7")
    assert latest(tmp_path)[0] == 1
    write(tmp_path, 2, state(), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000001", "0000000002"]


def test_what_a_killed_process_leaves_goes_when_the_next_one_begins(tmp_path: Path) -> None:
    """Also where no further checkpoint comes: what was half written, and an old one that was half deleted."""
    for number in (1, 2, 3, 4):
        write(tmp_path, number, state(), 9)
    (tmp_path / "0000000001" / MANIFEST).unlink()
    damage(tmp_path / "0000000004", STATE, "cut")
    (tmp_path / ".writing-5").mkdir()
    tidy(tmp_path, 3, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{number:010}" for number in (2, 3, 4)]
    tidy(tmp_path / "none", None, 2)


def test_what_cannot_be_stored_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"0 some\.0 is of torch.complex64"):
        write(tmp_path, 1, {"some": [torch.ones(1, dtype=torch.complex64)]}, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folder": 3}, "folder must be a path, got 3"),
        ({"folder": ""}, "folder must be a path"),
        ({"pushes": 0}, "pushes must be"),
        ({"seconds": 0.0}, "seconds must be"),
        ({"seconds": None}, "pushes or seconds must be given"),
        ({"keep": 0}, "keep must be"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        unstale.Checkpoints(**{"folder": "x", **arguments})


def test_when_one_is_due() -> None:
    every = unstale.Checkpoints("x", pushes=10, seconds=60)
    assert [every.due(9, 59), every.due(10, 0), every.due(0, 60)] == [False, True, True]
    assert not unstale.Checkpoints("x", pushes=10, seconds=None).due(9, 1e9)
    # Writing takes no more than a twentieth of the time.
    assert [every.due(1, 61, cost=4), every.due(1, 81, cost=4)] == [False, True]
