"""Where a server waits for scripts. On this machine: at a socket in a folder of the user's own, and no network port."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unstale.errors import ArgumentError, RunError

__all__ = ["Door", "chosen", "given", "same_user", "scheme"]

VARIABLE = "UNSTALE_ADDRESS"
LONGEST = 107  # bytes, of what the kernel takes as a socket's path
_PEER = struct.Struct("3i")  # process, user and group, as SO_PEERCRED has them


def given(address: str | Path | None) -> str | None:
    """As given, or as ``UNSTALE_ADDRESS`` says."""
    return os.environ.get(VARIABLE) if address is None else str(address)


def scheme(address: str | Path | None) -> str:
    """What is before its ``://``; empty for a path."""
    before, sign, _ = (given(address) or "").partition("://")
    return before if sign else ""


def chosen(address: str | Path | None) -> Path:
    """The socket's path: as given, or as ``UNSTALE_ADDRESS`` says, or this user's usual one. Raises `ArgumentError`."""
    where = given(address)
    if where is None:
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        folder = Path(runtime) / "unstale" if runtime else Path(tempfile.gettempdir()) / f"unstale-{os.getuid()}"
        return folder / "server.sock"
    if scheme(where) or not where:
        raise ArgumentError(
            f"address must be the path of a socket on this machine, or ray://NAME, got {where!r}; scripts on other "
            "machines cannot connect in another way"
        )
    path = Path(where).absolute()
    if len(os.fsencode(path)) > LONGEST:
        raise ArgumentError(f"address must be a path of at most {LONGEST} bytes, got {where!r}; choose a shorter one")
    return path


def same_user(sock: socket.socket) -> bool:
    """Whether the other end of a connection is of this process's user."""
    _, user, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return bool(user == os.geteuid())


class Door:
    """A listening socket at ``path``, which only this user can reach. Raises `ArgumentError`, `RunError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        os.fchmod(self.socket.fileno(), stat.S_IRUSR | stat.S_IWUSR)  # what it binds to will have this mode
        try:
            with _locked(path.parent):
                self._bind()
                self._made = path.stat().st_ino
            self.socket.listen(128)
        except OSError as error:
            self.socket.close()
            raise RunError(f"cannot listen at {path}: {error.strerror or error}; choose another address") from error
        except Exception:
            self.socket.close()
            raise

    def _bind(self) -> None:
        try:
            return self.socket.bind(str(self.path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        if not stat.S_ISSOCK(self.path.lstat().st_mode):
            raise ArgumentError(f"address must be free, or a socket, got the file {self.path}; choose another one")
        with socket.socket(socket.AF_UNIX) as other:
            other.setblocking(False)
            try:
                other.connect(str(self.path))
            except ConnectionRefusedError:
                self.path.unlink()  # its server did not end in order
            except BlockingIOError:
                raise self._taken() from None
            else:
                raise self._taken()
        return self.socket.bind(str(self.path))

    def _taken(self) -> ArgumentError:
        return ArgumentError(f"address must be free, but a server is at {self.path} already; give this one another")

    def close(self) -> None:
        """Stop listening, and remove the socket."""
        self.socket.close()
        try:
            with _locked(self.path.parent):
                if self.path.stat().st_ino == self._made:
                    self.path.unlink()
        except (ArgumentError, OSError):
            pass  # somebody has removed it, or its folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among servers in a folder, made if need be, where nobody but this user can put anything."""
    folder.mkdir(mode=0o700, exist_ok=True)  # not its parents: a path that was mistyped is none to be made
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        about = os.fstat(descriptor)
        if about.st_uid != os.geteuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ArgumentError(
                f"address must be in a folder that only you can write to, got {folder}; name one in it that does not "
                f"exist, such as {folder / f'mine-{os.geteuid()}' / 'server.sock'}"
            )
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
