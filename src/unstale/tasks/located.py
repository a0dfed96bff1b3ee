"""Where a data set is: in a folder of the user's, or in the cache of Hugging Face's hub. Nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unstale import checks
from unstale.errors import DataError
from unstale.tasks.folders import Folder
from unstale.tasks.parquet import Parquet, needs_datasets
from unstale.tasks.sources import Source

__all__ = ["Download", "found", "located"]


@dataclass(frozen=True)
class Download:
    """What a data set is called, what to get, and how large that is.

    ``repository``: on Hugging Face's hub, of ``size``. ``otherwise``: what else will do.
    ``train``, ``test``: the names that the two parts may have. ``pictures``, ``labels``: those of the columns.
    """

    title: str
    repository: str
    size: str
    otherwise: str
    train: tuple[str, ...] = ("train",)
    test: tuple[str, ...] = ("test",)
    pictures: tuple[str, ...] = ("image", "img")
    labels: tuple[str, ...] = ("label",)

    def missing(self, where: str) -> DataError:
        """The error that says so."""
        return DataError(
            f"{self.title} is not {where}; download it with: hf download --repo-type dataset {self.repository} "
            f"({self.size}), into the hub's cache, or with --local-dir ROOT and root=ROOT (--data ROOT). "
            f"{self.otherwise}"
        )


def located(root: str | Path | None, download: Download) -> Path:
    """The folder ``root``; None: where the hub's cache has the data set.

    Raises: DataError where there is none, saying what to download.
    """
    if root is not None:
        folder = checks.path("root", root)
        if not folder.is_dir():
            raise download.missing(f"in {folder}, which is {'no folder' if folder.exists() else 'not there'}")
        return folder
    needs_datasets()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(download.repository, repo_type="dataset", local_files_only=True))
    except LocalEntryNotFoundError:
        raise download.missing("in the cache of Hugging Face's hub") from None


def found(root: Path, download: Download, classes: int, *, mapped: bool) -> tuple[Source, Source]:
    """The training and test pictures in ``root``, from Parquet files or from folders; ``mapped``: see `Parquet`.

    Raises: DataError, naming what is wrong, or saying what to download.
    """
    parts = [(_parquet(root, names), _folder(root, names)) for names in (download.train, download.test)]
    if all(files for files, _ in parts):
        options = (download.pictures, download.labels, classes)
        train, test = (Parquet.open(files, *options, mapped=mapped) for files, _ in parts)
        return train, test
    (_, train_folder), (_, test_folder) = parts
    if train_folder and test_folder:
        first, second = Folder.open(train_folder, classes), Folder.open(test_folder, classes)
        if first.names != second.names:
            strangers = ", ".join(sorted(set(first.names) ^ set(second.names))[:3])
            raise DataError(f"{train_folder} and {test_folder} must hold the same folders, but differ in {strangers}")
        return first, second
    wanted = " and ".join(f"{names[0]}-*.parquet or {names[0]}/CLASS/" for names in (download.train, download.test))
    raise download.missing(f"in {root}: it must hold {wanted}")


def _parquet(root: Path, names: tuple[str, ...]) -> list[Path]:
    # Not deeper: below may be the folders of a thousand classes.
    files = [path for name in names for deep in ("", "*/") for path in sorted(root.glob(f"{deep}{name}-*.parquet"))]
    folders = sorted({str(path.parent) for path in files})
    if len(folders) > 1:
        raise DataError(f"{root} holds {names[0]}-*.parquet in several folders: {', '.join(folders)}; pass one of them")
    return files


def _folder(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)
