"""Faults at exact batches, inside a worker. Workers import this, so it imports little."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unstale.tasks import Task


class Faulty(Task):
    """A task whose batch number ``batch`` is misread, in the first ``times`` processes that read it."""

    def __init__(self, task: Task, batch: int, fault: Callable[..., Any], marks: Path, times: int = 1) -> None:
        self.__dict__.update(task.__dict__)
        self.at, self.fault, self.marks, self.times = batch, fault, marks, times

    def batch(self, indices: Any, device: Any = "cpu", identity: Any = None) -> Any:
        found = super().batch(indices, device, identity)
        if identity is not None and identity[1] == self.at and self._again():
            return self.fault(*found)
        return found

    def _again(self) -> bool:
        for number in range(self.times):
            try:
                os.close(os.open(self.marks / f"mark{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False


def raises(inputs: Tensor, target: Tensor) -> Any:
    raise RuntimeError("the disk with the pictures is gone")


def has_no_more_memory() -> None:
    """As on a machine where others have taken the rest: 32 MiB more than what is in use, and that is all."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20), resource.RLIM_INFINITY))


def runs_out_of_memory(inputs: Tensor, target: Tensor) -> Any:
    has_no_more_memory()
    return [bytes(1 << 20) for _ in range(1 << 10)]


def runs_out_of_memory_in_torch(inputs: Tensor, target: Tensor) -> Any:
    has_no_more_memory()
    return [torch.zeros(1 << 18) for _ in range(1 << 10)]


def stops(inputs: Tensor, target: Tensor) -> Any:
    os.kill(os.getpid(), signal.SIGSTOP)
    return inputs, target


def dies(inputs: Tensor, target: Tensor) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
    return inputs, target


def exits(inputs: Tensor, target: Tensor) -> Any:
    raise SystemExit(7)


def is_slow(inputs: Tensor, target: Tensor) -> Any:
    time.sleep(0.8)
    return inputs, target


def is_nan(inputs: Tensor, target: Tensor) -> Any:
    return inputs * torch.nan, target
