"""C to a function that Python can call: the machine's own compiler, and a folder of what it made."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["NoCompilerError", "build"]

NATIVE = ("-march=native",)


class NoCompilerError(Exception):
    """C cannot be compiled here; the message says why."""


@functools.cache
def _compiler() -> tuple[str, str]:
    """Its path, and what tells it and this machine's processor from others."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        path = shutil.which(name) if name else None
        if path:
            answer = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                return path, f"{answer.stdout}\n{_processor()}"
    raise NoCompilerError("no C compiler (cc, gcc or clang) on this machine")


def _processor() -> str:
    """Code for one processor may not run on another that shares the folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def build(source: str, function: str, flags: Sequence[str]) -> Any:
    """A C function, as ctypes has it. Compiled once for each source, flags, compiler and processor.

    Raises `NoCompilerError` where that cannot be done.
    """
    compiler, identity = _compiler()
    key = hashlib.sha256("\0".join([source, *flags, compiler, identity]).encode()).hexdigest()[:32]
    try:
        library = _shelf() / f"{key}.so"
        if not library.exists():
            _compile(compiler, source, flags, library)
        return getattr(ctypes.CDLL(str(library)), function)
    except OSError as error:
        raise NoCompilerError(str(error)) from error


def _shelf() -> Path:
    """The user's cache folder, nobody else's to write; a temporary one if there is none."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        folder = base / "unstale" / "kernels"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if os.access(folder, os.W_OK) and about.st_uid == os.getuid() and not about.st_mode & 0o022:
            return folder
    except OSError:
        pass
    return _passing_shelf()


@functools.cache
def _passing_shelf() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="unstale-kernels-")
    _kept.append(folder)
    return Path(folder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


def _compile(compiler: str, source: str, flags: Sequence[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=".building-") as folder:
        code, made = Path(folder) / "step.c", Path(folder) / "step.so"
        code.write_text(source, encoding="utf-8")
        for extra in (NATIVE, ()):
            command = [compiler, "-std=c11", "-shared", "-fPIC", *flags, *extra, str(code), "-o", str(made), "-lm"]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                # Others may be building the same: whoever comes last replaces equal by equal.
                made.replace(library)
                return
    raise NoCompilerError((answer.stderr.strip().splitlines() or ["the compiler failed"])[0])
