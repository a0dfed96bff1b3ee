"""A run that goes on by itself, and can be looked at and spoken to meanwhile."""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch

from unstale import checks
from unstale.checkpoint import Checkpoints
from unstale.describe import Plain
from unstale.engines.allocator import memory_kept
from unstale.engines.live.conductor import Conductor
from unstale.engines.live.steered import Steered
from unstale.errors import Interrupted, RunError
from unstale.kernels.native import step_threads
from unstale.record import Run

__all__ = ["Background", "LiveRun", "conducted"]

T = TypeVar("T")


class Background:
    """A training that goes on in a thread of its own until all is trained, or until it is stopped."""

    def __init__(self, conductor: Steered) -> None:
        self._conductor = conductor
        self._threads = torch.get_num_threads()  # here, for in a new thread torch may have what another run left
        self._run: Future[Run] = Future()
        # Workers die with the thread that started them, so this one has to live as long as they do.
        self._thread = threading.Thread(target=self._work, name="unstale-live", daemon=True)
        self._thread.start()
        atexit.register(self._abandon)

    def _abandon(self) -> None:
        """Python ends, and would end a thread in the middle of whatever it is at, which torch answers with an abort."""
        for _ in range(2):
            self.stop()
        self._thread.join()

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._run.done()

    def wait(self, seconds: float | None = None) -> bool:
        """Until it has ended, or for so many seconds; answers whether it has."""
        futures.wait([self._run], seconds)
        return self.done

    def result(self, timeout: float | None = None) -> Run:
        """The run, when it has ended.

        Raises `Interrupted`, which carries what there is, if it was interrupted; the error that ended it, if one did;
        `TimeoutError` if it goes on for longer than ``timeout`` seconds.
        """
        return self._run.result(timeout)

    def stats(self) -> dict[str, Plain]:
        """How it goes, or went: progress, pushes per second, and a line for each worker."""
        return self._last if self.done else self._ask(self._conductor.stats)

    def checkpoint(self) -> None:
        """Write a checkpoint now. Raises `ArgumentError` if the run was not told where to."""
        self._ask(self._conductor.checkpoint)

    def stop(self) -> None:
        """End it early: gradients under way may still arrive, for as long as the grace lasts. `result` has the run."""
        self._conductor.ask(self._conductor.stop)

    def _ask(self, what: Callable[[], T]) -> T:
        answer: Future[T] = Future()

        def ask() -> None:
            try:
                answer.set_result(what())
            except BaseException as error:
                answer.set_exception(error)

        self._conductor.ask(ask)
        while True:
            try:
                return answer.result(0.1)
            except TimeoutError:
                if self.done and not answer.done():
                    raise RunError("the run has ended; see result()") from None

    def _work(self) -> None:
        ended: Callable[[], None]
        try:
            torch.set_num_threads(1)
            with step_threads(self._threads), memory_kept(), closing(self._conductor):
                run = self._conductor.run()
        except BaseException as error:
            if isinstance(error, Interrupted):
                error.signal = self._conductor.signal
            ended = partial(self._run.set_exception, error)
        else:
            ended = partial(self._run.set_result, run)
        torch.set_num_threads(self._threads)
        self._last = self._conductor.stats()
        atexit.unregister(self._abandon)
        ended()  # not before its workers are gone

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """As `stop`, for a signal; the second time it ends at once."""
        self._conductor.ask(lambda: self._conductor.stop("interrupted", number))


class LiveRun(Background):
    """A training on real workers."""

    _conductor: Conductor

    def __init__(
        self, conductor: Conductor, checkpoints: Checkpoints | None = None, resume: Path | None = None
    ) -> None:
        try:
            conductor.keep_in(checkpoints, resume)
        except BaseException:
            conductor.close()
            raise
        super().__init__(conductor)

    def scale(self, workers: int) -> None:
        """Have so many workers from now on. New ones start; those with the highest numbers finish what they are at."""
        workers = checks.whole("workers", workers, 1)
        self._ask(lambda: self._conductor.scale(workers))


def conducted(live: Background) -> Run:
    """Wait for a run; a signal to end ends it in order, a second one at once."""
    with _signals(live.interrupt):
        # A signal that another thread took is handled when this one wakes.
        while not live.done:
            live.wait(0.2)
        return live.result()


@contextmanager
def _signals(handle: Callable[[int], None]) -> Iterator[None]:
    """SIGINT and SIGTERM, if nobody else handles them and this is the main thread."""

    def handler(number: int, frame: FrameType | None) -> None:
        handle(number)

    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    mine = threading.current_thread() is threading.main_thread()
    ours = [number for number, before in usual.items() if mine and signal.getsignal(number) is before]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, usual[number])
