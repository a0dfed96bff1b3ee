"""A page in a headless browser: what it becomes, and what it complains about."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")
_POLICY = re.compile(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>")


@dataclass(frozen=True)
class Seen:
    dom: str
    console: list[str]

    @property
    def title(self) -> str:
        found = re.search(r"<title>(.*?)</title>", self.dom, re.DOTALL)
        return found[1] if found else ""

    @property
    def answer(self) -> Any:
        """What `driven` was asked for."""
        found = re.search(r'<output id="answer">(.*?)</output>', self.dom, re.DOTALL)
        assert found, self.console
        return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def seen(page: Path, home: Path) -> Seen:
    """The page after it has settled."""
    assert CHROMIUM is not None
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=1280,900"]
    own = [f"--user-data-dir={home / 'browser'}", "--virtual-time-budget=2000", "--dump-dom"]
    ended = subprocess.run([CHROMIUM, *options, *own, page.as_uri()], capture_output=True, text=True, timeout=120)
    return Seen(ended.stdout, [line for line in ended.stderr.splitlines() if "CONSOLE" in line])


def driven(page: Path, home: Path, script: str, width: int = 1280) -> Seen:
    """A copy of the page, so wide, without its policy and with a script at its end, whose value is the answer."""
    html = _POLICY.sub("", page.read_text("utf-8"), count=1)
    tell = f"setTimeout(() => parent.postMessage(JSON.stringify((() => {{{script}}})()), '*'), 300)"
    (home / "inner.html").write_text(html.replace("</body>", f"<script>{tell}</script></body>"), "utf-8")
    listen = "onmessage = (event) => { document.getElementById('answer').textContent = event.data }"
    frame = f'<iframe src="inner.html" style="border:0;width:{width}px;height:900px"></iframe>'
    (home / "outer.html").write_text(f'<output id="answer"></output><script>{listen}</script>{frame}', "utf-8")
    return seen(home / "outer.html", home)
