"""Put reproductions into docs/results: ``python docs/results.py FOLDER…``, after ``unstale reproduce … --out FOLDER``.

Each folder becomes a page of its name: the table beside the paper's, the pictures, the claims, and one line a run. What
is said there about how it was made comes from the folder itself.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent / "results"
PICTURES = {
    "scores.png": "Final scores against the number of workers, here and in the paper",
    "time.png": "Score against simulated time, synchronous training beside it",
    "delay_vs_gap.png": "Delay and normalised gap through training",
    "pushes.png": "Every push: normalised gap against delay",
    "heatmap.png": "Score over momentum and learning rate",
}
INDEX = """# Results

Reproductions of the paper's tables and figure on data that is within reach of a laptop: scikit-learn's digits, subsets
of Fashion-MNIST, and a real text. Each page has the command that made it, its versions, date and time.

The runs themselves, with every push, are not kept here; the commands make them again. `python docs/results.py FOLDER…`
makes these pages from the folders that `unstale reproduce` writes.

| page | what | as in the paper |
|:--|:--|:--|
"""


def main(folders: list[Path]) -> int:
    """Pages of these folders, and an index of all pages there are."""
    for folder in folders:
        texts = [folder / name for name in ("table.md", "claims.md") if (folder / name).exists()]
        if not texts:
            print(f"error: {folder} holds no table.md; pass a folder of `unstale reproduce`", file=sys.stderr)  # noqa: T201
            return 2
        _page(folder, texts)
    _index()
    return 0


def _page(folder: Path, texts: list[Path]) -> None:
    page = ROOT / folder.name
    shutil.rmtree(page, ignore_errors=True)
    page.mkdir(parents=True)
    pictures = {"-".join(path.relative_to(folder).parts): path for path in _pictures(folder)}
    for name, path in pictures.items():
        shutil.copyfile(path, page / name)
    for path in folder.glob("*.csv"):
        shutil.copyfile(path, page / path.name)
    shown = "\n\n".join(f"![{_caption(folder, path)}]({name})" for name, path in pictures.items())
    first, *rest = (path.read_text("utf-8").strip() for path in texts)
    head, _, body = first.partition("\n")
    (page / "README.md").write_text("\n\n".join([head, shown, body.strip(), *rest]) + "\n", "utf-8")


def _pictures(folder: Path) -> list[Path]:
    """Of the folder itself, and of the tuning of each workload, as table 1 has them."""
    there = [folder / name for name in PICTURES] + sorted(folder.glob("*/tuning/heatmap.png"))
    return [path for path in there if path.exists()]


def _caption(folder: Path, path: Path) -> str:
    workload = "" if path.parent == folder else f", {path.relative_to(folder).parts[0]}"
    return f"{PICTURES[path.name]}{workload}"


def _index() -> None:
    lines = []
    for page in sorted(ROOT.glob("*/README.md")):
        title = page.read_text("utf-8").partition("\n")[0].lstrip("# ").removesuffix(", reproduced")
        name, _, scale = page.parent.name.rpartition("-")
        lines.append(f"| [{page.parent.name}]({page.parent.name}/README.md) | {name}, on {scale} | {title} |")
    (ROOT / "README.md").write_text(INDEX + "\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
