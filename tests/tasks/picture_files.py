"""Small files in the formats of the large data sets."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def pixels(count: int, height: int = 32, width: int = 32, seed: int = 0) -> Pixels:
    """(n, H, W, 3), of noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def png(picture: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def write_parquet(
    path: Path, pictures: Sequence[bytes | None], labels: Sequence[Any], picture: str = "img", label: str = "label"
) -> Path:
    """As the hub has them: a struct of bytes and path, and a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = [{"bytes": raw, "path": f"/etc/passwd-{number}"} for number, raw in enumerate(pictures)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({picture: pa.array(structs, kind), label: pa.array(labels, pa.int64())})
    pq.write_table(table, path, row_group_size=3)
    return path


def write_folders(root: Path, pictures: dict[str, Sequence[Pixels]]) -> Path:
    """A folder a class."""
    for name, several in pictures.items():
        (root / name).mkdir(parents=True)
        for number, picture in enumerate(several):
            (root / name / f"{number}.png").write_bytes(png(picture))
    return root


def records(pictures: Pixels, *labels: Sequence[int]) -> bytes:
    """CIFAR's binary format: label bytes, then planes of red, green and blue."""
    planes = pictures.transpose(0, 3, 1, 2).reshape(len(pictures), -1)
    columns = [np.asarray(column, np.uint8)[:, None] for column in labels]
    return np.concatenate([*columns, planes], axis=1).tobytes()
