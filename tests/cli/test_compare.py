from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.cli.run import SMALL, Command, assert_gone, finished, killed, start, wait_for_runs
from tests.experiments import frames
from unstale.cli.show import report
from unstale.errors import RunError
from unstale.experiments import Comparison

PAPER = ",".join(frames.PAPER)
TINY = ("--methods", "asgd,ga(per=layer)", "--workers", "2,3", "--seeds", "1", "--jobs", "1", *SMALL)


def test_it_prints_table_claims_and_where_the_files_are(unstale_command: Command, tmp_path: Path) -> None:
    said = unstale_command("compare", "digits", "--out", tmp_path / "c", *TINY)
    assert said.code == 0
    assert said.out.splitlines()[0].split() == ["N", "asgd", "ga(per=layer)"]
    assert "This data cannot speak to claim 1 (needs ga and sa)" in said.out
    assert said.out.splitlines()[-1].endswith(f"are in {tmp_path / 'c'}")
    table = (tmp_path / "c" / "table.md").read_text(encoding="utf-8")
    (tmp_path / "c" / "table.md").unlink()
    shown = unstale_command("show", tmp_path / "c")
    assert (shown.code, shown.out) == (0, said.out)
    assert (tmp_path / "c" / "table.md").read_text(encoding="utf-8") == table
    parsed = json.loads(unstale_command("show", tmp_path / "c", "--json").out)
    assert {row["method"] for row in parsed["results"]} == {"nag_asgd", "asgd", "ga(per=layer)", "sync"}
    assert parsed["failures"] == []
    refused = unstale_command("compare", "digits", "--out", tmp_path / "c", *TINY, "--lr", "0.5")
    assert refused.code == 2
    assert refused.err.startswith(
        f"error: {tmp_path / 'c'} holds another comparison: settings.lr.lr was 0.03, now 0.5;"
    )
    assert refused.err.count("\n") == 1


def test_quiet_says_nothing_and_json_only_json(unstale_command: Command, tmp_path: Path) -> None:
    small = ("--methods", "asgd", "--workers", "2", "--seeds", "1", "--jobs", "1", *SMALL)
    said = unstale_command("compare", "digits", "--out", tmp_path, "--quiet", *small)
    assert (said.code, said.out, said.err) == (0, "", "")
    said = unstale_command("compare", "digits", "--out", tmp_path, "--json", *small)
    assert len(json.loads(said.out)["results"]) == 3


def test_a_failed_run_is_told_and_exit_code_1(
    unstale_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unstale.experiments import worker

    simulate = vars(worker)["simulate"]

    def failing(plan: object) -> object:
        if plan.method.name == "asgd" and plan.workers == 2:  # type: ignore[attr-defined]
            raise RunError("the cat sat on the keyboard")
        return simulate(plan)

    monkeypatch.setattr(worker, "simulate", failing)
    said = unstale_command("compare", "digits", "--out", tmp_path, *TINY)
    assert said.code == 1
    assert said.err.splitlines()[-1] == "error: asgd, N = 2, seed 0: the cat sat on the keyboard"
    assert "missing runs: 1; the command" in said.out
    parsed = json.loads(unstale_command("compare", "digits", "--out", tmp_path, "--json", *TINY).out)
    assert parsed["failures"][0]["reason"] == "the cat sat on the keyboard"
    monkeypatch.undo()
    assert unstale_command("compare", "digits", "--out", tmp_path, *TINY).code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "4,x"], "--workers must be whole numbers"),
        (["--workers", "0"], "workers must be"),
        (["--methods", "ga,gaa"], "unknown method 'gaa'"),
        (["--methods", ","], "methods must name at least one"),
        (["--seeds", "0"], "seeds must be"),
        (["--jobs", "0"], "--jobs must be"),
    ],
)
def test_wrong_use(unstale_command: Command, tmp_path: Path, arguments: list[str], message: str) -> None:
    said = unstale_command("compare", "digits", "--out", tmp_path / "none", *arguments)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert not (tmp_path / "none").exists()


def test_a_damaged_run_is_wrong_use(unstale_command: Command, tmp_path: Path) -> None:
    assert unstale_command("compare", "digits", "--out", tmp_path, *TINY).code == 0
    (tmp_path / "runs" / "asgd-n2-s0" / "history.parquet").write_bytes(b"PAR1")
    said = unstale_command("compare", "digits", "--out", tmp_path, *TINY)
    assert said.code == 2
    assert "asgd-n2-s0/history.parquet is damaged" in said.err


@pytest.mark.parametrize(("std", "seeds"), [(0.3, 3), (12.3, 2), (12.3, 3), (0.3, 1)])
def test_seven_methods_fit_into_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, std: float, seeds: int
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    scores = frames.of_table({n: frames.TABLE_4[min(n, 28)] for n in (8, 12, 28, 128)}, std)
    outline = frames.make_outline(scores, seeds)
    comparison = Comparison(tmp_path, outline, frames.make_results(outline, scores))
    comparison.__dict__["epochs"] = frames.make_epochs()
    report(comparison, quiet=False, json=False)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines if not line.startswith(("•", "cifar", "†", "results", "–")))
    assert lines[0].split() == ["N", *frames.PAPER]
    assert [len(line.split()) for line in lines[1:5]] == [8] * 4


def test_methods_that_do_not_fit_make_a_second_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    scores = frames.of_table(frames.TABLE_4, 0.2)
    outline = frames.make_outline(scores)
    comparison = Comparison(tmp_path, outline, frames.make_results(outline, scores))
    comparison.__dict__["epochs"] = frames.make_epochs()
    report(comparison, quiet=False, json=False)
    lines = capsys.readouterr().out.splitlines()
    headers = [line.split()[1:] for line in lines if line.strip().startswith("N ")]
    assert len(headers) > 1
    assert [label for header in headers for label in header] == list(frames.PAPER)


MANY = (
    *("compare", "quadratic", "--methods", "asgd,ga", "--workers", "2", "--seeds", "3", "--jobs", "2"),
    *("--epochs", "20"),
)


def test_killed_and_interrupted_it_leaves_no_process_and_continues(tmp_path: Path) -> None:
    kept = killed(tmp_path, *MANY, "--out", tmp_path)

    second = start(*MANY, "--out", tmp_path)
    wait_for_runs(second, tmp_path, len(kept) + 1)
    os.killpg(second.pid, signal.SIGINT)
    out, err = second.communicate(timeout=300)
    assert second.returncode == 130, err
    assert_gone(second)
    done = len(finished(tmp_path))
    assert f"interrupted: {done} of 12 runs are kept in {tmp_path}; the same command continues" in err
    assert "Traceback" not in err
    assert out == ""

    kept |= finished(tmp_path)
    third = start(*MANY, "--out", tmp_path, "--json")
    out, err = third.communicate(timeout=300)
    assert third.returncode == 0, err
    assert f"12 runs, {len(kept)} of them finished already" in err
    assert len(json.loads(out)["results"]) == 12
    assert kept.items() <= finished(tmp_path).items()
    assert not list(tmp_path.rglob(".writing-*"))
