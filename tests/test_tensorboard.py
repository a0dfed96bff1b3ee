"""What TensorBoard is told: with a writer of our own everywhere, and with the real one where it is installed."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import unstale
from tests.cli.run import SMALL, Command
from tests.engines.problems import blobs
from unstale.errors import ArgumentError, MissingPackageError


class Writer:
    made: list[Writer] = []

    def __init__(self, folder: str) -> None:
        self.folder, self.closed = folder, False
        self.scalars: dict[str, dict[int, float]] = {}
        self.texts: list[tuple[str, str]] = []
        self.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.setdefault(name, {})[step] = value

    def add_text(self, name: str, text: str, step: int | None = None) -> None:
        self.texts.append((name, text))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "made", [])
    return Writer.made


def test_means_of_pushes_and_every_evaluation(writers: list[Writer], tmp_path: Path) -> None:
    board = unstale.TensorBoard(tmp_path, every=3)
    run = unstale.train(blobs(), "ga", 3, epochs=1, batch_size=6, callbacks=[board])
    (writer,) = writers
    history = run.history
    assert list(writer.scalars["train/loss"]) == [3, 6, 9, 10]
    assert writer.scalars["train/loss"][6] == pytest.approx(history["loss"][3:6].mean())
    assert writer.scalars["train/delay"][10] == history["delay"][9]
    assert writer.scalars["test/score"] == dict(zip(run.evaluations["pushes"], run.evaluations["score"], strict=True))
    assert not any(math.isnan(value) for values in writer.scalars.values() for value in values.values())
    assert '"name": "ga"' in dict(writer.texts)["config"]
    assert writer.closed


def test_real_workers_and_what_happens_to_them(writers: list[Writer], tmp_path: Path) -> None:
    board = unstale.TensorBoard(tmp_path)
    worker = {"worker": 1, "mean_delay": 2.5, "mean_seconds": 0.25}
    board.on_stats({"alive": 3, "pushes_per_second": 12.0, "workers": [worker]})
    board.on_incident(1, "Traceback:\nValueError: no")
    (writer,) = writers
    assert {name: values[0] for name, values in writer.scalars.items()} == {
        "workers/alive": 3,
        "workers/pushes_per_second": 12.0,
        "delay/worker 1": 2.5,
        "seconds/worker 1": 0.25,
    }
    assert writer.texts == [("incidents", "    worker 1:\n    Traceback:\n    ValueError: no")]


def test_on_the_command_line(writers: list[Writer], unstale_command: Command, tmp_path: Path) -> None:
    said = unstale_command("train", "digits", "--tensorboard", "--out", tmp_path / "run", *SMALL)
    assert said.code == 0, said.err
    assert writers[0].folder == str(tmp_path / "run" / "tensorboard")
    assert writers[0].scalars["test/score"]
    said = unstale_command("train", "digits", "--tensorboard", *SMALL)
    assert (said.code, said.err) == (
        2,
        "error: --tensorboard must come with --out, a folder to write to, got it alone; add --out FOLDER\n",
    )


def test_wrong_use(writers: list[Writer], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="every must be"):
        unstale.TensorBoard(tmp_path, every=0)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        MissingPackageError, match=r"needs the package tensorboard, .*pip install 'unstale\[tensorboard\]'"
    ):
        unstale.TensorBoard(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_real_one(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = unstale.train(blobs(), "ga", 3, epochs=1, batch_size=6, callbacks=[unstale.TensorBoard(tmp_path)])
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    assert [event.step for event in found.Scalars("test/score")] == run.evaluations["pushes"].to_list()
    assert found.Scalars("train/loss")[0].value == pytest.approx(run.history["loss"].mean())
