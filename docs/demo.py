"""Put the demo's picture and table into the README: ``make readme``, after ``make demo``.

The table carries its own birth certificate: command, date, versions, machine, seeds.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MARKS = "<!-- demo table -->", "<!-- /demo table -->"


def main(folder: Path) -> int:
    """Take scores.png and table.md from a folder that ``unstale compare`` wrote."""
    table, picture = folder / "table.md", folder / "scores.png"
    missing = [path for path in (table, picture) if not path.exists()]
    if missing:
        print(f"error: {missing[0]} is missing; run `make demo` first", file=sys.stderr)  # noqa: T201
        return 2
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    before, _, rest = text.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    body = table.read_text("utf-8").strip()
    readme.write_text(f"{before}{MARKS[0]}\n\n{body}\n\n{MARKS[1]}{after}", "utf-8")
    images = ROOT / "docs" / "images"
    images.mkdir(exist_ok=True)
    shutil.copyfile(picture, images / picture.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
