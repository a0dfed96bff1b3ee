"""A process that has imported what workers need, and forks one when it is asked to: in milliseconds, not seconds.

It computes nothing itself, so nothing of torch's is at work in it when it forks. There is one for each process that
trains, started when it is first needed; it dies with that process, and its workers die with it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue

__all__ = ["Nursery", "main", "nursery"]

REQUEST = struct.Struct("<cq")
"""b"s" (start) or b"k" (kill), and the worker's token."""
REPORT = struct.Struct("<qi")
"""A worker has ended: its token, and the status as of `os.waitpid`; or could not be forked, and minus the errno."""
_PACKAGES = Path(__file__).parents[3]
_RUN = (
    "import sys; sys.path.append(sys.argv[3]); from unstale.engines.live.nursery import main; "
    "sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))"
)
_DESCRIPTORS = 5  # channel, setup, block, standard output and error


class Nursery:
    """The side of the process that trains. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token = 0
        self._ended: dict[int, int] = {}
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = mine
        self._reports = select.poll()  # not select(), which knows the first 1024 descriptors only
        self._reports.register(mine, select.POLLIN)
        # Nothing in the current folder can be taken for a module; this package is found wherever it was found here.
        command = [sys.executable, "-P", "-c", _RUN, str(os.getpid()), str(theirs.fileno()), str(_PACKAGES)]
        # More threads than one when it forks would be asking for trouble.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        # A group of its own: Ctrl-C at a terminal is the trainer's to handle.
        self.process = subprocess.Popen(
            command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, process_group=0, env=environment
        )
        theirs.close()

    def close(self) -> None:
        """End it, and its workers with it."""
        self._socket.close()
        self.process.kill()
        self.process.wait()

    @property
    def _open(self) -> bool:
        return self._socket.fileno() >= 0

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None

    def start(self, descriptors: tuple[int, int, int]) -> int:
        """Fork a worker, which gets copies of these; answers its token. If it cannot be, its socket will close."""
        with self._lock:
            self._token += 1
            with contextlib.suppress(OSError):
                socket.send_fds(self._socket, [REQUEST.pack(b"s", self._token)], [*descriptors, 1, 2])
            return self._token

    def kill(self, token: int) -> None:
        """End a worker at once."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.send(REQUEST.pack(b"k", token))

    def status(self, token: int, seconds: float) -> int | None:
        """How a worker ended, as in its `REPORT`; None if that is not known within so many seconds."""
        with self._lock:
            while token not in self._ended and self._open and self._reports.poll(1000 * seconds):
                try:
                    report = self._socket.recv(REPORT.size)
                except OSError:
                    break
                if not report:
                    break
                ended, status = REPORT.unpack(report)
                self._ended[ended] = status
            return self._ended.pop(token, None)


_current: Nursery | None = None
_making = threading.Lock()


def nursery() -> Nursery:
    """This process's own, alive."""
    global _current
    with _making:
        if _current is not None and not _current.alive:
            _current.close()
            _current = None
        _current = _current or _made()
        return _current


def _made() -> Nursery:
    """Made in a thread that does not end: a child dies with the thread that started it."""
    answer: SimpleQueue[Nursery | BaseException] = SimpleQueue()

    def make() -> None:
        try:
            answer.put(Nursery())
        except BaseException as error:
            answer.put(error)
        threading.Event().wait()

    threading.Thread(target=make, name="unstale-nursery", daemon=True).start()
    made = answer.get()
    if isinstance(made, BaseException):
        raise made
    return made


def _forget_nursery() -> None:
    """After a fork: it is the parent's."""
    global _current
    _current = None


def _end() -> None:
    if _current is not None:
        _current.close()


os.register_at_fork(after_in_child=_forget_nursery)
atexit.register(_end)


def main(parent: int, channel: int) -> int:
    """Fork workers until nobody asks any more."""
    # Whoever asks a whole group or job to end means the trainer, which has gradients under way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from unstale.engines.live import worker

    if not worker.dies_with(parent):
        return 1
    worker.prepare()
    with contextlib.suppress(ConnectionError):  # the trainer has died, and so do we
        _serve(socket.socket(fileno=channel))
    return 0


def _serve(line: socket.socket) -> None:
    tokens: dict[int, int] = {}
    # A signal has to end the wait for a request.
    woken, bell = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    waited: list[socket.socket | int] = [line, woken]
    while True:
        ready = select.select(waited, [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            _report(line, tokens)
        if line not in ready:
            continue
        request, descriptors, _, _ = socket.recv_fds(line, REQUEST.size, _DESCRIPTORS)
        if not request:
            return
        what, token = REQUEST.unpack(request)
        if what == b"s":
            try:
                pid = os.fork()
            except OSError as error:  # too many processes, or no memory
                pid = -1
                line.send(REPORT.pack(token, -(error.errno or 1)))
            if pid == 0:
                for inherited in (line.fileno(), woken, bell):
                    os.close(inherited)
                signal.set_wakeup_fd(-1)
                _become_worker(descriptors)
            if pid > 0:
                tokens[pid] = token
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            for pid in [pid for pid, known in tokens.items() if known == token]:
                os.kill(pid, signal.SIGKILL)


def _become_worker(descriptors: list[int]) -> None:
    from unstale.engines.live import worker

    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        channel, setup, block, out, err = descriptors
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        code = worker.main(os.getppid(), channel, setup, block)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _report(line: socket.socket, tokens: dict[int, int]) -> None:
    """Tell of those that have ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        line.send(REPORT.pack(tokens.pop(pid), status))
