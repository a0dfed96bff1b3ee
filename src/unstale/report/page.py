"""What a page is made of, and how it becomes HTML: everything escaped, nothing fetched, no foreign code run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import unstale
from unstale.describe import finite

__all__ = ["Cell", "Page", "Section", "Table", "flat", "markdown", "picture", "render", "split_claim"]

_VERDICT = re.compile(r"^(Claim \d+), (.*?): ((?:confirmed|refuted|undecided|holds|fails)[^(]*) \((.*)\)\.$")
_LARGEST_PICTURE = 4 * 2**20  # bytes


@dataclass(frozen=True)
class Cell:
    """value: what its column is sorted by. mark: "best", "bad" or nothing. title: shown where a pointer rests."""

    text: str
    value: Any = None
    mark: str = ""
    title: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Table:
    """columns: a cell each, for a method's with its colour. The first column heads its row."""

    name: str
    columns: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A titled part of a page. html: safe HTML. pairs: names and values. folded: (title, names and values) each."""

    title: str
    lead: str = ""
    claims: Sequence[Mapping[str, str]] = ()
    html: Sequence[str] = ()
    tables: Sequence[Table] = ()
    charts: Sequence[Mapping[str, Any]] = ()
    pictures: Sequence[tuple[str, str]] = ()
    pairs: Mapping[str, str] = field(default_factory=dict)
    folded: Sequence[tuple[str, Mapping[str, str]]] = ()


@dataclass(frozen=True)
class Page:
    """facts: the few numbers on top, by name. alerts: what a reader must know before. made: its birth certificate."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    alerts: Sequence[str]
    sections: Sequence[Section]
    made: str


def render(page: Page) -> str:
    """The page as one HTML file. Its own style and script are the only ones that a browser will take."""
    import jinja2

    assets = files("unstale.report")
    style, script = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "ensure_ascii": False}
    template = environment.from_string(assets.joinpath("template.html").read_text(encoding="utf-8"))
    charts = [chart for section in page.sections for chart in section.charts]
    return template.render(
        page=page,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        charts=finite(charts),
        version=unstale.__version__,
    )


def markdown(text: str) -> str:
    """Markdown as HTML; what is HTML in it is shown, not run, and pictures are left out."""
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image").render(text)
    # The policy takes no style that is written into a tag.
    made = re.sub(r' style="text-align:(\w+)"', r' class="\1"', made)
    # A page has one title of the first order.
    return re.sub(r"<(/?)h([1-4])>", lambda tag: f"<{tag[1]}h{int(tag[2]) + 2}>", made)


def picture(path: Path) -> str | None:
    """A PNG file as a data URI; None if it is not there, or too large to be embedded."""
    if not path.is_file() or path.stat().st_size > _LARGEST_PICTURE:
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def split_claim(sentence: str) -> dict[str, str]:
    """A sentence about a claim, its verdict apart."""
    found = _VERDICT.match(sentence)
    if found is None:
        return {"text": sentence, "verdict": "", "details": "", "name": "", "kind": ""}
    name, text, verdict, details = found.groups()
    clear = "too few" not in details and "noise" not in verdict
    clear = clear and not verdict.startswith("undecided")
    kind = ("good" if verdict.startswith(("confirmed", "holds")) else "bad") if clear else "unclear"
    return {"name": name, "text": text[0].upper() + text[1:], "verdict": verdict, "details": details, "kind": kind}


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as lines: ``method.update.momentum`` → ``0.9``."""
    if isinstance(value, Mapping) and value:
        pairs: Iterable[tuple[str, Any]] = value.items()
        return {k: v for name, item in pairs for k, v in flat(item, f"{prefix}.{name}" if prefix else name).items()}
    if isinstance(value, list | tuple):
        return {prefix: ", ".join(map(str, value))}
    return {prefix: str(value)}


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
