"""The opponent of real workers: PyTorch's DistributedDataParallel over gloo, whose step waits for the slowest."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from unstale.clocks import Clock
from unstale.engines.base import Plan
from unstale.engines.live.travel import packed_plan

MOMENTUM = 0.9


@dataclass(frozen=True)
class Steps:
    """What came of it: seconds of training (evaluations not counted) after each step, and the test loss after some."""

    seconds: list[float]
    losses: list[tuple[float, float]]


def ddp(plan: Plan, pace: Clock, steps: int, evaluate_every: int = 0) -> Steps:
    """So many synchronous steps of ``plan.workers`` processes, each step a batch from each."""
    with tempfile.TemporaryDirectory() as folder:
        given = packed_plan(plan), pace, plan.workers, steps, evaluate_every, folder
        mp.spawn(_rank, given, nprocs=plan.workers)  # type: ignore[attr-defined, no-untyped-call]
        found = torch.load(Path(folder) / "steps.pt", weights_only=True)
    return Steps(**found)


def _rank(rank: int, packed: bytes, pace: Clock, workers: int, steps: int, evaluate_every: int, folder: str) -> None:
    import cloudpickle

    plan: Plan = cloudpickle.loads(packed)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers)
    module = plan.task.build(plan.seed).train()
    model = DistributedDataParallel(module)
    optimizer = torch.optim.SGD(model.parameters(), lr=plan.schedule(0.0), momentum=MOMENTUM, nesterov=True)
    durations = pace.stream(plan.seed)
    found: dict[str, Any] = {"seconds": [], "losses": []}
    dist.barrier()
    started, aside = time.monotonic(), 0.0
    for step in range(steps):
        begun = time.monotonic()
        optimizer.zero_grad()
        batch = plan.task.batch(plan.batches.indices(step * workers + rank))
        loss = plan.task.loss_of(model, batch)
        time.sleep(max(0.0, begun + durations.duration(rank, step) - time.monotonic()))
        loss.backward()
        optimizer.step()
        if rank == 0:
            found["seconds"].append(time.monotonic() - started - aside)
        if evaluate_every and (step + 1) % evaluate_every == 0:
            begun = time.monotonic()
            if rank == 0:
                with torch.no_grad():
                    found["losses"].append((found["seconds"][-1], plan.task.evaluate(module).loss))
            dist.barrier()
            aside += time.monotonic() - begun
    if rank == 0:
        torch.save(found, Path(folder) / "steps.pt")
    dist.barrier()
    dist.destroy_process_group()
