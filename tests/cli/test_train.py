from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

import unstale
from tests.cli.run import SMALL, Command, start
from tests.tasks.test_cifar import parquet


def test_a_run_is_saved_and_shown(unstale_command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    said = unstale_command("train", "digits", "-m", "ga(per=layer)", "-n", "3", "--out", folder, *SMALL)
    assert said.code == 0
    assert "digits / mlp, ga, N = 3, seed 0: accuracy " in said.out
    run = unstale.Run.load(folder)
    assert (run.config["workers"], run.status) == (3, "finished")
    assert run.params
    shown = unstale_command("show", folder)
    assert shown.code == 0
    assert said.out.splitlines()[0].split(";")[0] in shown.out
    assert (folder / "run.png").stat().st_size > 10_000
    assert json.loads(unstale_command("show", folder, "--json").out)["summary"]["pushes"] == 4


def test_options_reach_the_plan(unstale_command: Command) -> None:
    options = [
        *("--lr", "0.2", "--warmup", "0", "--decay", "steps", "--decay-at", "0.25,0.5", "--decay-factor", "0.5"),
        *(
            "--epochs",
            "1",
            "--batch-size",
            "128",
            "--seed",
            "3",
            "--weight-decay",
            "0.1",
            "--keep-last",
            "--clip",
            "0.25",
        ),
        *("--eval-every", "0.5", "--batch-norm", "per-worker", "--on-nonfinite", "reject", "--executor", "blocks"),
        *("--clock-option", "cv=0.2", "--heterogeneity", "0.6", "--task-option", "width=4", "--model", "mlp"),
    ]
    config = json.loads(unstale_command("train", "digits", "-n", "2", "--json", *options).out)["config"]
    assert config["lr"] == {
        "type": "Recipe",
        "lr": 0.2,
        "warmup": 0.0,
        "decay": "steps",
        "at": [0.25, 0.5],
        "factor": 0.5,
    }
    assert config["clock"]["cv"] == 0.2
    assert config["clock"]["heterogeneity"] == 0.6
    expected = {
        "epochs": 1.0,
        "batch_size": 128,
        "seed": 3,
        "weight_decay": 0.1,
        "clip": 0.25,
        "drop_last": False,
        "eval_every": 0.5,
        "batch_norm": "per-worker",
        "on_nonfinite": "reject",
    }
    assert {name: config[name] for name in expected} == expected


def test_a_cosine_may_be_asked_for(unstale_command: Command) -> None:
    options = ("--decay", "cosine", "--warmup", "0.5", "--lr", "0.2", "--epochs", "1", "--batch-size", "128")
    run = json.loads(unstale_command("train", "digits", "-m", "adam", "-n", "1", "--json", *options).out)
    assert run["config"]["lr"] | {"decay": "cosine", "warmup": 0.5} == run["config"]["lr"]


def test_the_recipe_decides_what_is_not_given(unstale_command: Command) -> None:
    config = json.loads(unstale_command("train", "quadratic", "--epochs", "1", "--json").out)["config"]
    assert (config["lr"]["lr"], config["batch_size"], config["clock"]["type"]) == (0.1, 32, "Gamma")


def test_the_data_are_where_it_is_said(unstale_command: Command, tmp_path: Path) -> None:
    root = parquet(tmp_path)
    options = ("--data", root, "--model", "wrn10_1", "--task-option", "width=1", "--epochs", "1", "--batch-size", "5")
    config = json.loads(unstale_command("train", "cifar10", "-n", "2", "--json", *options).out)["config"]
    assert (config["task"]["model_name"], config["task"]["train_size"]) == ("wrn10_1", 10)
    assert config["lr"]["at"] == [0.3, 0.6, 0.8]
    assert config["weight_decay"] == 5e-4


def test_noise_in_the_shape_of_pictures(unstale_command: Command) -> None:
    options = ("--model", "mlp", "--task-option", "shape=(1,4,4)", "--task-option", "n=8", "--batch-size", "4")
    said = unstale_command("train", "synthetic_images", "-n", "2", "--json", *options)
    assert json.loads(said.out)["summary"]["pushes"] == 2


def test_quiet_says_nothing_and_json_only_json(unstale_command: Command) -> None:
    said = unstale_command("train", "digits", "-q", *SMALL)
    assert (said.code, said.out, said.err) == (0, "", "")
    summary = json.loads(unstale_command("train", "digits", "--json", *SMALL).out)["summary"]
    assert summary["status"] == "finished"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "unknown task 'digit'; did you mean digits?"),
        (["digits", "--model", "resnet9"], "unknown model 'resnet9'; did you mean resnet8"),
        (["digits", "-m", "gaa"], "unknown method 'gaa'; did you mean ga"),
        (["digits", "-m", "ga(per=row)"], "must be"),
        (["digits", "-m", "ga(foo=1)"], "'foo'"),
        (["digits", "--clock", "gama"], "unknown clock 'gama'"),
        (["digits", "--clock", "constant", "--heterogeneity", "0.6"], "--heterogeneity belongs to the gamma clock"),
        (["digits", "--clock-option", "cv"], "--clock-option must be written name=value"),
        (["digits", "--clock-option", "foo=1"], "no parameter 'foo'"),
        (["digits", "-n", "0"], "workers must be"),
        (["digits", "--lr", "-1"], "lr must be"),
        (["digits", "--lr", "nan"], "lr must be"),
        (["digits", "--decay", "linear"], "decay must be one of"),
        (["digits", "--decay-at", "0.5,x"], "--decay-at must be numbers"),
        (["digits", "--batch-size", "100000"], "batch_size must be"),
        (["digits", "--executor", "magic"], "magic"),
        (["digits", "--batch-norm", "none"], "batch_norm must be"),
        (["fashion_mnist", "--task-option", "root=/nowhere"], "dataset-fashion-mnist"),
        (["fashion_mnist", "--data", "/nowhere"], "dataset-fashion-mnist"),
        (["cifar10", "--data", "/nowhere"], "CIFAR-10 is not in /nowhere"),
        (["cifar100", "--data", "/nowhere"], "hf download --repo-type dataset uoft-cs/cifar100 (about 142 MB)"),
        (["imagenet", "--data", "/nowhere"], "hf download --repo-type dataset ILSVRC/imagenet-1k (about 155 GB"),
        (["digits", "--data", "/nowhere"], "options of task 'digits' must be among model, width; got root"),
        (["synthetic_images", "--model", "vgg"], "unknown model 'vgg'"),
        (["digits", "--out", "/dev/null/run"], "/dev/null/run"),
        (["quadratic", "--model", "mlp"], "model"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(unstale_command: Command, arguments: list[str], message: str) -> None:
    said = unstale_command("train", *arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


@pytest.mark.parametrize(
    "arguments", [["--foo"], ["train"], ["train", "digits", "--epochs", "many"], ["compare", "digits"]]
)
def test_so_is_what_typer_refuses(unstale_command: Command, arguments: list[str]) -> None:
    said = unstale_command(*arguments)
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err


def test_a_folder_that_holds_something_is_refused(unstale_command: Command, tmp_path: Path) -> None:
    assert unstale_command("train", "digits", "--out", tmp_path, *SMALL).code == 0
    again = unstale_command("train", "digits", "--out", tmp_path, *SMALL)
    assert (again.code, again.err) == (2, f"error: {tmp_path} holds a run already; choose another folder for --out\n")
    assert unstale_command("show", tmp_path / "nowhere").code == 2


def test_a_run_that_fails_is_exit_code_1(unstale_command: Command) -> None:
    options = ["-m", "nag_asgd", "-n", "8", "--lr", "1e30", "--warmup", "0", "--on-nonfinite", "raise", "--epochs", "1"]
    said = unstale_command("train", "digits", *options)
    assert said.code == 1
    assert "error: " in said.err


def test_an_interrupted_run_is_saved(tmp_path: Path) -> None:
    process = start("train", "quadratic", "--epochs", "5000", "--out", tmp_path / "run")
    while not (tmp_path / "run").exists():  # made just before the training starts
        time.sleep(0.05)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    run = unstale.Run.load(tmp_path / "run")
    assert run.status == "interrupted"
    assert f"interrupted: {len(run.history):,} pushes are saved in {tmp_path}" in err
    assert "Traceback" not in err
