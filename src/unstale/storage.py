"""Runs on disk: JSON, Parquet and safetensors; written whole or not at all, and nothing that executes on load."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstale.describe import Plain
from unstale.errors import StoreError
from unstale.events import EVENTS, has_events, read_events
from unstale.record import EVALUATION_COLUMNS, HISTORY_COLUMNS, Run
from unstale.timing import write_timeline

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["UNFINISHED", "load_run", "read_json", "save_run", "usable_folder", "write_json", "written"]

CONFIG, HISTORY, EVALUATIONS, PARAMS = "config.json", "history.parquet", "evaluations.parquet", "params.safetensors"
TIMELINE = "timeline.json"
UNFINISHED = ".writing-"  # what `written` calls a folder that is not complete


def save_run(run: Run, folder: Path, *, overwrite: bool = False, params: bool = True) -> Path:
    """See `Run.save`; without ``params`` for runs that are only to be compared."""
    import safetensors.torch

    if (folder / CONFIG).exists() and not overwrite:
        raise StoreError(
            f"{folder} holds a run already; choose another folder, or overwrite it on purpose (overwrite=True)"
        )
    for left in folder.glob(f"{UNFINISHED}*"):  # by a process that was killed in here
        shutil.rmtree(left, ignore_errors=True)
    with written(folder) as new:
        run.history.to_parquet(new / HISTORY, index=False)
        run.evaluations.to_parquet(new / EVALUATIONS, index=False)
        if run.events is not None:
            write_timeline(run.events, new / TIMELINE)
            if not _recorded(folder / EVENTS, run.events):
                (new / EVENTS).mkdir()
                run.events.to_parquet(new / EVENTS / "000000.parquet", index=False)
        if params:
            # Not save_file: on a full disk it raises an error of its own kind.
            tensors = {name: value.contiguous() for name, value in run.params.items()}
            (new / PARAMS).write_bytes(safetensors.torch.save(tensors))
        about: dict[str, Plain] = {"status": run.status, "seconds": run.seconds}
        about |= {"cancelled": run.cancelled, "quarantined": list(run.quarantined)}
        if run.members:
            about["members"] = [dict(member) for member in run.members]
        write_json(new / CONFIG, {"config": {**run.config}, "run": about, "summary": run.summary()})
    return folder


def load_run(folder: Path) -> Run:
    """See `Run.load`."""
    import pandas as pd
    import safetensors.torch

    saved = read_json(folder / CONFIG)
    history = _read(folder / HISTORY, pd.read_parquet)
    evaluations = _read(folder / EVALUATIONS, pd.read_parquet)
    params = _read(folder / PARAMS, safetensors.torch.load_file) if (folder / PARAMS).exists() else {}
    _check_columns(folder / HISTORY, history, HISTORY_COLUMNS)
    _check_columns(folder / EVALUATIONS, evaluations, EVALUATION_COLUMNS)
    try:
        about = saved["run"]
        return Run(
            config=saved["config"],
            history=history.astype(HISTORY_COLUMNS),
            evaluations=evaluations.astype(EVALUATION_COLUMNS),
            params=params,
            status=str(about["status"]),
            seconds=float(about["seconds"]),
            cancelled=int(about["cancelled"]),
            quarantined=tuple(int(batch) for batch in about["quarantined"]),
            members=tuple(about.get("members", ())),
            events=read_events(folder / EVENTS) if has_events(folder / EVENTS) else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(
            f"{folder / CONFIG} is damaged: it has no valid {error}; delete {folder} and run it again"
        ) from error


def _recorded(folder: Path, events: pd.DataFrame) -> bool:
    """Whether these events are there, as when they were written while the run went on."""
    try:
        return folder.is_dir() and read_events(folder).equals(events)
    except StoreError:
        return False


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """A new folder to write into; its files move to ``folder`` when all is written. Raises `StoreError` if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder))
    except OSError as error:
        raise StoreError(f"cannot write to {folder}: {error.strerror or error}; choose another folder") from error
    try:
        yield new
        # The configuration goes last: a folder without it holds no run.
        for path in sorted(new.iterdir(), key=lambda path: path.name == CONFIG):
            if path.is_dir() and (folder / path.name).is_dir():  # which only an empty one may replace
                shutil.rmtree(folder / path.name)
            path.replace(folder / path.name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(f"cannot save into {folder}: {reason}; free some space or choose another folder") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def usable_folder(folder: Path) -> None:
    """Find out now whether a folder can be written to, not after the work is done."""
    with written(folder) as new:
        (new / ".probe").write_bytes(b"unstale")
        (new / ".probe").unlink()


def write_json(path: Path, value: Mapping[str, Plain]) -> None:
    """Plain JSON; NaN and infinities, which it does not have, become strings."""
    path.write_text(json.dumps(_encoded(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `StoreError` if there is none."""
    value = _read(path, lambda p: json.loads(p.read_text(encoding="utf-8")))
    if not isinstance(value, dict):
        raise StoreError(f"{path} is damaged: it must hold a JSON object; delete it and run again")
    decoded: dict[str, Any] = _decoded(value)
    return decoded


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    if not path.exists():
        raise StoreError(f"{path} is missing; {path.parent} holds no complete run")
    try:
        return read(path)
    except Exception as error:  # each format has its own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StoreError(f"{path} is damaged ({reason}); delete {path.parent} and run it again") from error


def _check_columns(path: Path, table: pd.DataFrame, columns: Mapping[str, str]) -> None:
    missing = sorted(set(columns) - set(table.columns))
    if missing:
        raise StoreError(f"{path} is damaged: it has no column {missing[0]!r}; delete {path.parent} and run it again")


def _encoded(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float:{value}"
    if isinstance(value, Mapping):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(item) for item in value]
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value in ("float:nan", "float:inf", "float:-inf"):
        return float(value.removeprefix("float:"))
    if isinstance(value, dict):
        return {key: _decoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value
