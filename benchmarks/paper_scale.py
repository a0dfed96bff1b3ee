"""Do the paper's largest models run in the simulator, in the memory that its formula says?

A few pushes of ResNet-50 at 224×224 and of Transformer-XL at WikiText-103's vocabulary, on data drawn from a seed.
Method: each row is a fresh process; its peak (VmHWM, reset before) less what it had before the run (VmRSS). Beside it
(2N + 8)·d float32, what the server may keep, and the activations: the peak of one gradient alone, in a process of its
own, less the gradient. Where a batch does not fit, it is computed in micro-batches, or it is smaller than published: so
the table says. Linux only.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from common import Row, parser, report
from memory import resident

import unstale
from unstale.tasks import Task

GIB = 2**30
PUBLISHED = {"synthetic_images": 256, "synthetic_text": 60}


@dataclass(frozen=True)
class Case:
    """A row. at_a_time: examples of a micro-batch; None: the whole batch. options: of the task."""

    task: str
    model: str
    method: str
    workers: int
    batch: int
    pushes: int
    at_a_time: int | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Task:
        """With as many data as are needed."""
        return unstale.tasks.get(self.task, model=self.model, **SIZES[self.task](self), **self.options)


def pictures(case: Case) -> dict[str, Any]:
    """A batch for each push."""
    return {"n": case.batch * case.pushes, "test_size": 2, "micro_batch": case.at_a_time}


def words(case: Case) -> dict[str, Any]:
    """A stream for each worker, and a hundredth more for the test."""
    needed = case.batch * case.options.get("target", 150) * case.pushes
    return {"streams": case.workers, "tokens": needed * 100 // 99 + 100}


SIZES = {"synthetic_images": pictures, "synthetic_text": words}
FULL = (
    Case("synthetic_images", "resnet50", "dana_ga", 4, 8, 4),
    Case("synthetic_text", "transformer_xl", "ga_adam", 4, 2, 4),
    Case("synthetic_text", "transformer_xl", "dana_ga", 2, 60, 2),
    Case("synthetic_images", "resnet50", "dana_ga", 2, 256, 2, at_a_time=16),
)
QUICK = (
    Case("synthetic_images", "resnet50", "dana_ga", 2, 8, 4, 4, {"shape": (3, 64, 64), "width": 16}),
    Case("synthetic_text", "transformer_xl_small", "ga_adam", 2, 4, 4, None, {"vocabulary": 20_000, "target": 64}),
)


def above(work: Any) -> tuple[int, float]:
    """Bytes at the peak of ``work()``, above those before it; and how many seconds it took."""
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
    started = time.perf_counter()
    kept = work()  # alive until the peak is read
    seconds = time.perf_counter() - started
    peak = resident("VmHWM") - before
    del kept
    return peak, seconds


def simulated(case: Case) -> Row:
    """The run, after a small one that loads what a run loads."""
    unstale.train(unstale.tasks.quadratic(), case.method, 2, lr=0.1, epochs=1, batch_size=32)
    task = case.make()
    plan: dict[str, Any] = {"lr": 1e-3, "epochs": 1, "batch_size": case.batch, "drop_last": True, "eval_every": 1e9}
    ran: list[unstale.Run] = []
    peak, seconds = above(
        lambda: ran.append(unstale.train(task, case.method, case.workers, strategy="sequential", **plan))
    )
    (run,) = ran
    return {
        "bytes": peak,
        "seconds": seconds,
        "pushes": len(run.history),
        "finite": bool(run.history["loss"].notna().all()),
    }


def gradient(case: Case) -> Row:
    """One gradient alone: what it takes, less its own d floats."""
    task = case.make()
    model = task.build(0).train()
    d = sum(p.numel() for p in model.parameters())
    chosen = task.batches(case.batch, 0, True).indices(0)
    batch = task.batch(chosen[: 2 * (case.at_a_time or case.batch)], identity=(0, 0))  # two micro-batches tell it all
    peak, _ = above(lambda: task.step(model, batch)[0].backward())
    return {"bytes": max(0, peak - 4 * d), "d": d}


CHILDREN = {"simulated": simulated, "gradient": gradient}


def fresh(what: str, case: Case) -> dict[str, Any]:
    """What a process of its own has to tell."""
    command = [sys.executable, __file__, "--child", what, "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def measure(case: Case) -> Row:
    """One row."""
    alone, run = fresh("gradient", case), fresh("simulated", case)
    states = 4 * alone["d"] * (2 * case.workers + 8)
    published = case.batch == PUBLISHED[case.task]
    return {
        "model": case.model,
        "method": case.method,
        "N": case.workers,
        "d": alone["d"],
        "batch": f"{case.batch}{'' if published else f' of {PUBLISHED[case.task]}'}",
        "at a time": case.at_a_time or case.batch,
        "pushes": run["pushes"],
        "s a push": run["seconds"] / run["pushes"],
        "peak GiB": run["bytes"] / GIB,
        "states GiB": states / GIB,
        "activ. GiB": alone["bytes"] / GIB,
        "peak/ sum": run["bytes"] / (states + alone["bytes"]),
        "raw": {"simulated": run, "gradient": alone, "case": asdict(case)},
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=len(FULL), help="only so many, the quickest first")
    options.add_argument("--child", choices=list(CHILDREN), help="measure in this process, and tell as JSON")
    options.add_argument("--case", type=json.loads, help="what to measure there, as JSON")
    given = options.parse_args()
    if given.child:
        print(json.dumps(CHILDREN[given.child](Case(**given.case))))
        return
    cases = (QUICK if given.quick else FULL)[: given.rows]
    told = "VmHWM of the run less VmRSS before it, one fresh process each; gradients one by one"
    settings: Row = {"method": told, "states": "(2N + 8)·d float32", "activ.": "one gradient's peak less its d floats"}
    settings |= {"batch": "as published, or so many of the published; at a time: a micro-batch"}
    question = "Peak memory of the paper's largest models in the simulator, against the formula."
    report("paper_scale", question, [measure(case) for case in cases], settings=settings)


if __name__ == "__main__":
    main()
