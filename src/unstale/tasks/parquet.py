"""Pictures in Parquet files, as Hugging Face's hub has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unstale.errors import DataError
from unstale.tasks.sources import digest

__all__ = ["Parquet", "needs_datasets"]


@dataclass(frozen=True, eq=False)
class Parquet:
    """Files with a column of pictures, a struct {bytes, path}, and a column of whole numbers.

    Only the bytes are used; a path is never followed. ``mapped``: not read into memory, but turned once by Hugging
    Face's ``datasets`` into an Arrow file, of about the same size and in its own cache, that can be read by index.
    """

    files: tuple[Path, ...]
    picture: str
    labels: NDArray[np.int64]
    ends: NDArray[np.int64]
    mapped: bool = False

    @classmethod
    def open(
        cls,
        files: Sequence[Path],
        pictures: Sequence[str],
        labels: Sequence[str],
        classes: int,
        *,
        mapped: bool = False,
    ) -> Parquet:
        """``pictures`` and ``labels``: names that the columns may have. Raises `DataError`, naming the file."""
        import pyarrow.parquet as pq

        found, columns = [], set()
        for path in files:
            try:
                schema = pq.read_schema(path)
                columns.add(_named(path, schema, pictures, "a struct {bytes: binary, path: string}", _is_picture))
                label = _named(path, schema, labels, "whole numbers", _is_whole)
                column = pq.read_table(path, columns=[label]).column(0)
            except _unreadable_errors() as error:
                raise _unreadable(path, error) from error
            if column.null_count:
                raise DataError(
                    f"{path} must have a label in each row of {label!r}, got {column.null_count} empty ones"
                )
            found.append(_checked(path, column.to_numpy().astype(np.int64), classes))
        if len(columns) > 1:
            raise DataError(f"{files[0].parent} must have one name for pictures in all files, got {sorted(columns)}")
        ends = np.cumsum([len(part) for part in found])
        return cls(tuple(files), columns.pop(), np.concatenate(found), ends, mapped)

    @cached_property
    def fingerprint(self) -> str:
        """See `Source`."""
        return digest(self.labels, ((path.name, path.stat().st_size) for path in self.files))

    def where(self, index: int) -> str:
        """File and row."""
        number = int(np.searchsorted(self.ends, index, side="right"))
        return f"{self.files[number]}, row {index - (int(self.ends[number - 1]) if number else 0)},"

    def raws(self, indices: Sequence[int]) -> list[bytes | None]:
        """See `Source`."""
        structs = self._rows[indices][self.picture] if self.mapped else self._column.take(indices).to_pylist()
        return [None if struct is None else struct["bytes"] for struct in structs]

    @cached_property
    def _column(self) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        chunks: list[Any] = []
        for path in self.files:
            try:
                chunks += pq.read_table(path, columns=[self.picture]).column(0).chunks
            except _unreadable_errors() as error:
                raise _unreadable(path, error) from error
        return pa.chunked_array(chunks)

    @cached_property
    def _rows(self) -> Any:
        datasets = needs_datasets()
        content = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        try:
            return datasets.Dataset.from_parquet(
                [str(path) for path in self.files],
                features=datasets.Features({self.picture: content}),
                columns=[self.picture],
            )
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            raise _unreadable(self.files[0].parent, error) from error


def needs_datasets() -> Any:
    """Hugging Face's ``datasets``. Raises `DataError` where it is not installed."""
    try:
        import datasets
    except ImportError as error:
        raise DataError("this needs Hugging Face's datasets; install it with: pip install 'unstale[data]'") from error
    return datasets


def _unreadable_errors() -> tuple[type[Exception], ...]:
    """What pyarrow raises for files that are not what they should be."""
    import pyarrow as pa

    return (OSError, ValueError, KeyError, IndexError, pa.ArrowException)


def _unreadable(where: Path, error: Exception) -> DataError:
    reason = (str(error.__cause__ or error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{where} cannot be read as Parquet ({reason}); fetch it again")


def _checked(path: Path, labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    if not len(labels):
        raise DataError(f"{path} must hold at least one row, got none")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise DataError(f"{path} must hold labels from 0 to {classes - 1}, got {wrong[0]}")
    return labels


def _named(path: Path, schema: Any, names: Sequence[str], kind: str, fits: Callable[[Any], bool]) -> str:
    for name in names:
        if name in schema.names and fits(schema.field(name).type):
            return name
    got = ", ".join(f"{field.name}: {field.type}" for field in schema)
    raise DataError(f"{path} must have a column {' or '.join(names)} of {kind}, got {got[:200]}")


def _is_picture(kind: Any) -> bool:
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    inner = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
    return set(inner) == {"bytes", "path"} and (
        types.is_binary(inner["bytes"]) or types.is_large_binary(inner["bytes"])
    )


def _is_whole(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind))
