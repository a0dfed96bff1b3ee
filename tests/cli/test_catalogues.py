from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import pytest

import unstale
from tests.cli.run import ENVIRONMENT, Command
from unstale.cli import parse
from unstale.cli.app import app
from unstale.errors import ArgumentError

COMMANDS = [command.name or "" for command in app.registered_commands]


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["train", "-h"], ["--version"], ["nothing"]])
def test_help_answers_without_the_heavy_libraries(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom unstale.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit: pass\n"
        "print({'torch', 'numpy', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stderr.endswith("set()\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(unstale_command: Command, command: str) -> None:
    said = unstale_command(command, "--help")
    assert said.code == 0
    assert "Examples" in said.out
    assert f"unstale {command}" in said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_paragraphs_of_help_are_as_wide_as_the_terminal(
    unstale_command: Command, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "600")
    intro = unstale_command(command, "--help").out.split("╭")[0].splitlines()
    assert [line for before, line in pairwise(intro) if before.strip() and line.strip()] == []


def test_version(unstale_command: Command) -> None:
    assert unstale_command("--version").out == f"unstale {unstale.__version__}\n"


@pytest.mark.parametrize(
    ("room", "names"),
    [
        ("methods", unstale.methods.names()),
        ("tasks", unstale.tasks.names()),
        ("clocks", unstale.clocks.names()),
    ],
)
def test_lists_name_everything_with_its_source(unstale_command: Command, room: str, names: list[str]) -> None:
    listed = json.loads(unstale_command(room, "--json").out)
    assert [row["name"] for row in listed] == names
    assert all(row["summary"] and row["source"] for row in listed)
    shown = unstale_command(room)
    assert shown.code == 0
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    assert all(any(line.startswith(name) for line in shown.out.splitlines()) for name in names)
    for name in names:
        assert unstale_command(room, name).code == 0
        assert json.loads(unstale_command(room, name, "--json").out)["name"] == name
    assert unstale_command(room, "--quiet").out == ""


def test_a_method_shows_parts_equation_defaults_and_citation(unstale_command: Command) -> None:
    said = unstale_command("methods", "dana_ga").out
    for words in ("MomentumPerWorker(momentum=0.9)", "AlongAllMomenta()", "momentum = 0.9", "w_i", "ICLR 2020"):
        assert words in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("methods", "dana_gaa"), "error: unknown method 'dana_gaa'; did you mean dana_ga"),
        (("tasks", "digit"), "error: unknown task 'digit'; did you mean digits?"),
        (("clocks", "gama"), "error: unknown clock 'gama'; did you mean gamma?"),
    ],
)
def test_unknown_names_give_the_nearest(unstale_command: Command, arguments: tuple[str, ...], message: str) -> None:
    said = unstale_command(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith(message)
    assert said.err.count("\n") == 1


def test_lists_are_split_outside_parentheses() -> None:
    assert parse.split("ga(per=layer, momentum=0.8),dana_ga, ,sa") == ["ga(per=layer, momentum=0.8)", "dana_ga", "sa"]
    assert parse.named("--x", ["a=1", "b=text", "c=(1, 2)", "d=None", "e=a=b"]) == {
        "a": 1,
        "b": "text",
        "c": (1, 2),
        "d": None,
        "e": "a=b",
    }
    for wrong in ("a", "=1", "a b=1"):
        with pytest.raises(ArgumentError, match="--x must be written name=value"):
            parse.named("--x", [wrong])
