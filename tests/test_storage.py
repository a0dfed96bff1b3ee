from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import unstale
from unstale.errors import StoreError
from unstale.events import EventLog
from unstale.storage import read_json, usable_folder, write_json, written

FILES = ("config.json", "evaluations.parquet", "history.parquet", "params.safetensors")


@pytest.fixture(scope="module")
def run() -> unstale.Run:
    return unstale.train(unstale.tasks.digits(width=4), "ga", 3, epochs=0.3, lr=0.05)


@pytest.fixture
def folder(run: unstale.Run, tmp_path: Path) -> Path:
    return run.save(tmp_path / "run")


def test_what_is_saved_is_loaded(run: unstale.Run, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    loaded = unstale.Run.load(folder)
    pd.testing.assert_frame_equal(loaded.history, run.history, check_exact=True)
    pd.testing.assert_frame_equal(loaded.evaluations, run.evaluations, check_exact=True)
    assert loaded.params.keys() == run.params.keys()
    assert all(torch.equal(loaded.params[name], value) for name, value in run.params.items())
    assert (loaded.status, loaded.seconds, loaded.quarantined) == (run.status, run.seconds, run.quarantined)
    assert loaded.config == json.loads(json.dumps(dict(run.config)))
    assert loaded.summary() == run.summary()


def test_a_run_is_not_overwritten_by_accident(run: unstale.Run, folder: Path) -> None:
    with pytest.raises(StoreError, match=r"holds a run already; .* \(overwrite=True\)"):
        run.save(folder)
    run.save(folder, overwrite=True)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("code ran while loading",)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), b"", b"\x00garbage", b"PAR1", b"{}"])
def test_damaged_and_tampered_files_are_named_and_nothing_runs(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(StoreError, match=rf"{name} is damaged .*delete .* run it again|{name} is damaged: .* no valid"):
        unstale.Run.load(folder)


def test_truncated_files_are_named(folder: Path) -> None:
    for name in FILES:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(StoreError, match=rf"{name} is damaged"):
            unstale.Run.load(folder)
        (folder / name).write_bytes(whole)
    unstale.Run.load(folder)


def test_a_table_of_something_else_is_damaged(folder: Path) -> None:
    pd.DataFrame({"x": [1]}).to_parquet(folder / "history.parquet")
    with pytest.raises(StoreError, match=r"history\.parquet is damaged: it has no column"):
        unstale.Run.load(folder)


@pytest.mark.parametrize("name", ["config.json", "evaluations.parquet", "history.parquet"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(StoreError, match=rf"{name} is missing"):
        unstale.Run.load(folder)


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(new: Path) -> None:
        (new / "half.txt").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), written(tmp_path / "a") as new:
        fail(new)
    assert not list((tmp_path / "a").iterdir())
    with pytest.raises(StoreError, match=r"cannot save into .*; free some space"), written(tmp_path / "a"):
        raise OSError(28, "No space left on device")


def test_a_folder_that_cannot_be_written_is_told_at_once(run: unstale.Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for impossible in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(StoreError, match="choose another folder"):
            usable_folder(impossible)
        with pytest.raises(StoreError, match="choose another folder"):
            run.save(impossible)


def test_json_keeps_what_json_has_no_word_for(tmp_path: Path) -> None:
    value = {"a": math.inf, "b": [-math.inf, {"c": math.nan}], "d": "float", "e": 0.1, "f": None}
    write_json(tmp_path / "x.json", value)  # type: ignore[arg-type]
    read = read_json(tmp_path / "x.json")
    assert math.isnan(read["b"][1].pop("c"))
    assert read == {**value, "b": [-math.inf, {}]}
    json.loads((tmp_path / "x.json").read_text(), parse_constant=lambda name: pytest.fail(name))


FULL_DISK = """
import resource, sys
from pathlib import Path
import unstale
run = unstale.train(unstale.tasks.quadratic(dimensions=int(sys.argv[2])), "asgd", 2, epochs=0.1)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    run.save(sys.argv[1])
except unstale.errors.StoreError as error:
    print(error)
    print(sorted(str(path) for path in Path(sys.argv[1]).rglob("*")))
"""


@pytest.mark.parametrize(("dimensions", "limit"), [(2, 1000), (8000, 20_000)])  # in the tables, and in the parameters
def test_a_disk_that_is_full_while_saving(tmp_path: Path, dimensions: int, limit: int) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "run"), str(dimensions), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told, left = done.stdout.splitlines()
    assert told.startswith(f"cannot save into {tmp_path / 'run'}: ")
    assert told.endswith("; free some space or choose another folder")
    assert left == "[]"


def test_what_a_killed_process_left_goes_when_the_run_is_saved(run: unstale.Run, tmp_path: Path) -> None:
    (tmp_path / ".writing-abc").mkdir()
    (tmp_path / ".writing-abc" / "history.parquet").write_bytes(b"PAR1")
    run.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json", "history.parquet", "evaluations.parquet", "params.safetensors"
    }  # fmt: skip


def real_events(times: int) -> EventLog:
    log = EventLog()
    for n in range(times):
        log.add(float(n), "pull", worker=0, ticket=n)
    return log


def test_events_that_were_written_meanwhile_are_left_alone_if_they_are_all_there(
    run: unstale.Run, tmp_path: Path
) -> None:
    real = dataclasses.replace(run, events=real_events(5).frame())
    log = EventLog(tmp_path / "run" / "events")
    for n in range(3):
        log.add(float(n), "pull", worker=0, ticket=n)
    log.write()
    real.save(tmp_path / "run")  # two had not been written yet
    loaded = unstale.Run.load(tmp_path / "run").events
    assert loaded is not None
    pd.testing.assert_frame_equal(loaded, real_events(5).frame(), check_exact=True)
    piece = tmp_path / "run" / "events" / "000000.parquet"
    written_at = piece.stat().st_mtime_ns
    real.save(tmp_path / "run", overwrite=True)
    assert piece.stat().st_mtime_ns == written_at
    dataclasses.replace(run, events=real_events(2).frame()).save(tmp_path / "run", overwrite=True)
    assert len(unstale.Run.load(tmp_path / "run").events) == 2  # type: ignore[arg-type]
