"""``unstale train --resume``: a run that was killed goes on, and nothing else passes for it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import unstale
from tests.cli.run import ENVIRONMENT, Command, start
from tests.engines.problems import blobs, equal
from unstale.checkpoint import numbers
from unstale.errors import StoreError
from unstale.events import EventLog
from unstale.experiments.request import Request, keep_request, plan_of
from unstale.schedules import Recipe

PLAN = (
    "-m",
    "backup(spare=2)",
    "-n",
    "6",
    "--epochs",
    "3",
    "--batch-size",
    "16",
    "--clip",
    "1",
    "--clock-option",
    "cv=0.4",
)
STRATEGY = ("--strategy", "batched(lanes=3, threads=2)")


def wait_for(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while len(numbers(folder / "checkpoints")) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def left_by(folder: Path, sign: signal.Signals, *arguments: str) -> str:
    """Start a run, and end it by a signal after two checkpoints; what it said."""
    process = start("train", *arguments, "--out", folder)
    wait_for(process, folder, 2)
    os.killpg(process.pid, sign)
    return process.communicate(timeout=300)[1]


@pytest.fixture
def unfinished(unstale_command: Command, tmp_path: Path) -> Path:
    """What a run leaves that was killed after 8 pushes."""
    folder = tmp_path / "run"
    request = Request(
        task="quadratic", method="ga", settings={"workers": 3, "seed": 0, "lr": Recipe(lr=0.1), "epochs": 2}
    )
    keep_request(folder, request)

    class Full(unstale.Callback):
        def on_push(self, row: object) -> None:
            if len(numbers(folder / "checkpoints")) == 2:
                raise KeyboardInterrupt

    with pytest.raises(unstale.Interrupted):
        unstale.engines.simulate(
            plan_of(folder), (Full(),), checkpoints=unstale.Checkpoints(folder / "checkpoints", pushes=4)
        )
    return folder


def test_a_killed_process_s_run_goes_on_to_the_bit(unstale_command: Command, tmp_path: Path) -> None:
    """``kill -9`` of the whole process group, while gradients are computed ahead in two threads."""
    arguments = ("digits", *PLAN, *STRATEGY, "--task-option", "width=6", "--model", "mlp")
    assert unstale_command("train", *arguments, "-q", "--out", tmp_path / "whole").code == 0
    folder = tmp_path / "killed"
    left_by(folder, signal.SIGKILL, *arguments, "--checkpoint-every", "7")
    assert not (folder / "config.json").exists()
    said = unstale_command("train", "--resume", folder)
    assert said.code == 0, said.err
    assert f"saved in {folder}" in said.out
    whole, run = unstale.Run.load(tmp_path / "whole"), unstale.Run.load(folder)
    assert equal(run, whole)
    assert (run.config, run.status) == (whole.config, "finished")
    assert not (folder / "checkpoints").exists()


def test_ctrl_c_says_how_to_go_on(unstale_command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    said = left_by(folder, signal.SIGINT, "quadratic", "--epochs", "300", "--checkpoint-every", "50")
    run = unstale.Run.load(folder)
    assert f"interrupted: {len(run.history):,} pushes are saved in {folder}; go on with: " in said
    assert f"unstale train --resume '{folder}'" in said
    assert numbers(folder / "checkpoints")[-1] == len(run.history)
    again = unstale_command("train", "quadratic", "--out", folder)
    assert (again.code, again.out) == (2, "")
    assert (
        f"error: {folder} holds an unfinished run; go on with it (unstale train --resume '{folder}'), or" in again.err
    )
    assert unstale_command("train", "--resume", folder, "-q").code == 0
    assert unstale.Run.load(folder).status == "finished"


def test_a_finished_run_says_that_there_is_nothing_to_resume(unstale_command: Command, unfinished: Path) -> None:
    assert unstale_command("train", "--resume", unfinished, "--json").code == 0
    before = (unfinished / "config.json").read_bytes()
    said = unstale_command("train", "--resume", unfinished)
    assert (said.code, said.err) == (0, "")
    assert f"{unfinished} holds a finished run: there is nothing to resume" in said.out
    assert (unfinished / "config.json").read_bytes() == before


def test_what_was_saved_without_a_checkpoint_is_kept(unstale_command: Command, unfinished: Path) -> None:
    """Such as a run that failed while the disk was full: there is nothing to go on from, and nothing to lose."""
    run = unstale.engines.simulate(plan_of(unfinished))
    dataclasses.replace(run, status="interrupted").save(unfinished, overwrite=True)
    shutil.rmtree(unfinished / "checkpoints")
    log = EventLog(unfinished / "events")
    log.add(0.0, "join", worker=0)
    log.write()
    before = sorted(unfinished.rglob("*"))
    said = unstale_command("train", "--resume", unfinished)
    assert said.code == 2
    assert f"{unfinished} holds a run that was interrupted, and no checkpoint to go on from" in " ".join(
        said.err.split()
    )
    assert sorted(unfinished.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0.2"], "settings.lr.lr was 0.1, now 0.2"),
        (["-m", "sa"], "method was 'ga', now 'sa'"),
        (["-n", "4"], "settings.workers was 3, now 4"),
        (["digits"], "task was 'quadratic', now 'digits'"),
        (["--seed", "1"], "settings.seed was 0, now 1"),
        (["--strategy", "sequential"], "settings.strategy was absent, now 'sequential'"),
        (["--clock", "constant"], "clock was 'gamma', now 'constant'"),
        (["--heterogeneity", "0.5"], "clock_options.heterogeneity was absent, now 0.5"),
        (["--task-option", "samples=3"], "options.samples was absent, now 3"),
        (["--out", "elsewhere"], "--out must be the folder of --resume"),
        (["--checkpoint-every", "0"], "--checkpoint-every must be at least 1, got 0"),
    ],
)
def test_other_settings_are_refused(
    unstale_command: Command, unfinished: Path, arguments: list[str], message: str
) -> None:
    said = unstale_command("train", "--resume", unfinished, *arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: ")
    assert message in said.err
    assert not (unfinished / "config.json").exists()


def test_the_same_settings_are_not(unstale_command: Command, unfinished: Path) -> None:
    words = (
        "quadratic",
        "-m",
        "ga",
        "-n",
        "3",
        "--lr",
        "0.1",
        "--epochs",
        "2",
        "--clock",
        "gamma",
        "--out",
        unfinished,
    )
    said = unstale_command("train", "--resume", unfinished, *words, "--checkpoint-every", "3", "-q")
    assert (said.code, said.out, said.err) == (0, "", "")


def test_what_was_killed_before_its_first_checkpoint_begins_anew(unstale_command: Command, tmp_path: Path) -> None:
    settings = {"workers": 2, "lr": Recipe(lr=0.1), "epochs": 1}
    keep_request(tmp_path, Request(task="quadratic", method="ga", settings=settings))
    assert unstale_command("train", "--resume", tmp_path, "-q").code == 0
    assert unstale.Run.load(tmp_path).status == "finished"


def test_a_damaged_checkpoint_is_named_in_one_line(unfinished: Path) -> None:
    newest = max((unfinished / "checkpoints").iterdir())
    (newest / "tensors.safetensors").write_bytes(b"")
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONWARNINGS"}
    command = [sys.executable, "-m", "unstale.cli", "train", "--resume", str(unfinished), "-q"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=300)
    told = "is damaged (tensors.safetensors is not what was written); it is not used"
    assert (said.stdout, said.stderr) == ("", f"warning: checkpoint {newest} {told}\n")
    assert unstale.Run.load(unfinished).status == "finished"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no run"), ("{}", "is damaged"), ("[", "is damaged"), ('{"task": "digits", "x": 1}', "is damaged")],
)
def test_folders_without_a_run(unstale_command: Command, tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "request.json").write_text(content)
    said = unstale_command("train", "--resume", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("command", ["show", "replay"])
def test_what_has_not_ended_is_told_from_what_is_no_run(
    command: str, unstale_command: Command, unfinished: Path, tmp_path: Path
) -> None:
    said = unstale_command(command, unfinished)
    assert said.code == 2
    assert f"{unfinished} holds a run that has not ended; wait for it, or if nothing is at work there" in said.err
    assert f"go on with unstale train --resume {unfinished}" in said.err
    assert "has not ended" not in unstale_command(command, tmp_path).err


def test_a_run_begun_in_python_goes_on_in_python(unstale_command: Command, tmp_path: Path) -> None:
    unstale.train(blobs(), checkpoints=unstale.Checkpoints(tmp_path / "checkpoints", pushes=2), lr=0.1)
    with pytest.raises(
        StoreError, match=r"does not say how its plan was made.*go on in Python.*unstale.train\(task, …"
    ):
        plan_of(tmp_path)
    assert unstale_command("train", "--resume", tmp_path).code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("digits", "--model", "resnet8", "--decay-at", "0.3,0.6", "--clock", "pareto", "--clock-option", "shape=2.5"),
        ("synthetic_images", "--model", "mlp", "--task-option", "shape=(1,4,4)", "--task-option", "n=8"),
        ("quadratic", "-m", "ga(per=layer)", "--lr", "0.25", "--heterogeneity", "0.6", "--on-nonfinite", "reject"),
    ],
)
def test_a_plan_is_made_again_as_it_was(unstale_command: Command, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    small = ("--epochs", "0.01", "--batch-size", "8", "-n", "2")
    said = unstale_command("train", *arguments, *small, "--json", "--out", tmp_path)
    assert said.code == 0, said.err
    config = json.loads(said.out)["config"]
    plan = json.loads(json.dumps(plan_of(tmp_path).describe()))
    assert plan == {name: config[name] for name in plan} | {"strategy": plan["strategy"]}


def test_checkpoints_need_a_folder_and_a_run_a_task(unstale_command: Command) -> None:
    said = unstale_command("train", "digits", "--checkpoint-every", "5")
    assert (said.code, said.err) == (
        2,
        "error: --checkpoint-every must come with --out, a folder to write to, got it alone; add --out FOLDER\n",
    )
    said = unstale_command("train")
    assert said.code == 2
    assert said.err.startswith("error: train must be given a task, such as digits, or --resume FOLDER")
