"""The documentation tells the truth: its code runs, its names exist, its links lead somewhere, its heads are fresh."""

from __future__ import annotations

import operator
import re
import shlex
from pathlib import Path

import pytest
import typer

import unstale
from docs import generate
from unstale.cli.app import app
from unstale.methods import names

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"\bunstale((?:\.[A-Za-z_]\w*)+)")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
# The demo makes them together; while the README has no table, it has no picture either.
DEMO = re.compile(r"<!-- demo table -->\s*(.*?)\s*<!-- /demo table -->", re.DOTALL)
PICTURE = ROOT / "docs" / "images" / "scores.png"


def label(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text("utf-8"))


def headings(page: Path) -> set[str]:
    """Anchors as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text("utf-8")], ids=label)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order and in one namespace, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in FENCED.finditer(text):
        if block[1] == "python":
            above = text.count("\n", 0, block.start(2))
            exec(compile("\n" * above + block[2], page, "exec", dont_inherit=True), namespace)


def commands() -> list[list[str]]:
    """Every use of the command line in a console block, in words."""
    blocks = [block[2] for page in PAGES for block in FENCED.finditer(page.read_text("utf-8")) if block[1] == "console"]
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words[:1] == ["unstale"]]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_are_understood(words: list[str]) -> None:
    """Their names, options and arguments; nothing is run."""
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    group.commands[words[1]].make_context(words[1], words[2:])


def test_generated_parts_are_current() -> None:
    """`python docs/generate.py` mends it."""
    assert [label(page) for page in generate.stale()] == []
    assert generate.main(["--check"]) == 0


def test_a_page_that_is_out_of_date_is_noticed_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "PAGES", tmp_path / "methods")
    (tmp_path / "README.md").write_text("\n".join(("before", *generate.TABLE, "after")), "utf-8")
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == generate.main(["--check"]) == 0
    page = tmp_path / "methods" / "ga.md"
    page.write_text(page.read_text("utf-8").replace("gap", "lag", 1) + "\n1. By hand.\n", "utf-8")
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == generate.main(["--check"]) == 0
    assert page.read_text("utf-8").endswith("\n1. By hand.\n")
    (tmp_path / "methods" / "of_no_method.md").touch()
    assert generate.main(["--check"]) == 1


@pytest.mark.parametrize("method", names())
def test_every_method_has_its_details(method: str) -> None:
    written = generate.written(ROOT / "docs" / "methods" / f"{method}.md")
    assert written.startswith("\n## Implementation details\n")
    numbers = [int(number) for number in re.findall(r"^(\d+)\. \S", written, re.MULTILINE)]
    assert len(numbers) >= 5
    assert numbers == list(range(1, len(numbers) + 1))


def exists(path: str) -> bool:
    try:
        return operator.attrgetter(path[1:])(unstale) is not None
    except AttributeError:
        return False


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_names_exist(page: Path) -> None:
    """After no more than ``import unstale``."""
    named = {path for span in CODE.findall(prose(page)) for path in NAME.findall(span)}
    assert sorted(path for path in named if not exists(path)) == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(prose(page)):
        target = (page.parent / path).resolve() if path else page
        assert target.exists() or target == PICTURE, f"no {path}"
        assert not anchor or anchor in headings(target), f"no #{anchor} in {path or page.name}"


def test_the_picture_comes_with_its_table() -> None:
    found = DEMO.search((ROOT / "README.md").read_text("utf-8"))
    assert found is not None
    assert bool(found[1]) == PICTURE.exists()


@pytest.mark.parametrize("file", ["CITATION.cff", "README.md", "CHANGELOG.md"])
def test_the_version_is_the_package_s(file: str) -> None:
    assert unstale.__version__ in (ROOT / file).read_text("utf-8")
