"""How many exchanges a second, when computing takes no time?

An exchange is what moves one gradient: a point goes to a worker, a gradient of d elements comes back, a step is made.
Sides: the processes engine, the Ray engine, and Ray's documented pattern of a parameter server (a driver's loop with
``ray.wait``, a server actor with a torch model and ``torch.optim.SGD``, workers that set weights and return gradients
as arrays). All have two workers whose gradient is constant and takes no time, plain SGD in float32, and one thread
each. The engines do their whole work: versions, tickets, figures of each push, the log, and watching for faults.

Clock: wall time between two pushes far apart, once all workers are up; sides in turn.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import ray
import torch
from common import Row, alternate, median, parser, ratio, report
from torch import nn

import unstale

SIZES = "51e3,2.7e6,25.6e6"
WORKERS = 2
LAYERS = 20  # parameter tensors, as in a small network


class Constant(torch.autograd.Function):
    """A loss whose gradient is left as it is: nothing is computed."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        return weight.new_zeros(())

    @staticmethod
    def backward(ctx: Any, given: torch.Tensor) -> None:
        return None


class Model(nn.Module):
    """d parameters in a few tensors."""

    def __init__(self, d: int) -> None:
        super().__init__()
        sizes = [d // LAYERS] * (LAYERS - 1) + [d - d // LAYERS * (LAYERS - 1)]
        self.weights = nn.ParameterList(torch.zeros(size) for size in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = Constant.apply(self.weights[0])  # type: ignore[no-untyped-call]
        return loss

    # As in Ray's example.

    def get_weights(self) -> dict[str, torch.Tensor]:
        return {k: v.cpu() for k, v in self.state_dict().items()}

    def set_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.load_state_dict(weights)

    def set_gradients(self, gradients: list[np.ndarray[Any, Any]]) -> None:
        for g, p in zip(gradients, self.parameters(), strict=True):
            p.grad = torch.from_numpy(g)


class ParameterServer:
    """As in Ray's example."""

    def __init__(self, d: int, lr: float) -> None:
        torch.set_num_threads(1)
        self.model = Model(d)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)

    def apply_gradients(self, *gradients: Any) -> dict[str, torch.Tensor]:
        summed_gradients = [np.stack(gradient_zip).sum(axis=0) for gradient_zip in zip(*gradients, strict=True)]
        self.optimizer.zero_grad()
        self.model.set_gradients(summed_gradients)
        self.optimizer.step()
        return self.model.get_weights()

    def get_weights(self) -> dict[str, torch.Tensor]:
        return self.model.get_weights()


class DataWorker:
    """As in Ray's example, with gradients that are there already."""

    def __init__(self, d: int) -> None:
        torch.set_num_threads(1)
        self.model = Model(d)
        self.gradients = [np.zeros(tuple(p.shape), np.float32) for p in self.model.parameters()]

    def compute_gradients(self, weights: Mapping[str, torch.Tensor]) -> Any:
        self.model.set_weights(weights)
        return self.gradients


class Pattern:
    """Ray's asynchronous parameter server; the actors stay up between the rounds."""

    def __init__(self, d: int) -> None:
        remote: Any = ray.remote(num_cpus=0)
        self.ps = remote(ParameterServer).remote(d, 0.1)
        self.workers = [remote(DataWorker).remote(d) for _ in range(WORKERS)]
        ray.get([w.compute_gradients.remote(ray.get(self.ps.get_weights.remote())) for w in self.workers])

    def exchange(self, times: int) -> float:
        current_weights = self.ps.get_weights.remote()
        gradients = {worker.compute_gradients.remote(current_weights): worker for worker in self.workers}
        for turn in range(times + WORKERS):
            if turn == WORKERS:
                started = time.perf_counter()
            ready_gradient_list, _ = ray.wait(list(gradients))
            ready_gradient_id = ready_gradient_list[0]
            worker = gradients.pop(ready_gradient_id)
            current_weights = self.ps.apply_gradients.remote(*[ready_gradient_id])
            gradients[worker.compute_gradients.remote(current_weights)] = worker
        took = (time.perf_counter() - started) / times
        ray.get([current_weights, *gradients])
        return took

    def end(self) -> None:
        for actor in (self.ps, *self.workers):
            ray.kill(actor)


class Engine(unstale.Callback):
    """An engine of ours. Its workers stay up; between the rounds its server does not go on."""

    def __init__(self, d: int, **how: Any) -> None:
        one = torch.zeros(1024, 1), torch.zeros(1024)
        task = unstale.Task(partial(Model, d), first, one, one, score=first)
        patience = unstale.Patience(floor=1e6, starting=1e6)
        self.asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[list[float]] = queue.SimpleQueue()
        self.moments: list[float] = []
        self.wanted = 1
        plan: dict[str, Any] = {"lr": 0.1, "batch_size": 1, "epochs": 1000, "eval_every": 1000}
        self.live = unstale.launch(task, "asgd", WORKERS, callbacks=[self], patience=patience, **plan, **how)
        self._round()

    def on_push(self, row: Mapping[str, Any]) -> None:
        self.moments.append(time.perf_counter())
        if len(self.moments) < self.wanted:
            return
        self.done.put(self.moments)
        self.moments, self.wanted = [], self.asked.get()
        if not self.wanted:
            raise unstale.StopRun

    def exchange(self, times: int) -> float:
        self.asked.put(times + WORKERS)
        moments = self._round()
        return (moments[-1] - moments[WORKERS - 1]) / times

    def _round(self) -> list[float]:
        while not self.live.done:
            with suppress(queue.Empty):
                return self.done.get(timeout=1.0)
        self.live.result()  # which says why it ended
        raise RuntimeError("it has ended")

    def end(self) -> None:
        self.asked.put(0)
        self.live.result()


def first(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Nothing is left to be computed."""
    return output


def measure(d: int, rounds: int, times: int, servers: int) -> Row:
    """One row: all sides, with workers of their own."""
    made: dict[str, Engine | Pattern] = {
        "processes": Engine(d),
        "ray": Engine(d, engine="ray"),
        **({f"ray, {servers} servers": Engine(d, engine="ray", servers=servers)} if servers > 1 else {}),
        "pattern": Pattern(d),
    }
    sides: dict[str, Callable[[], float | None]] = {name: partial(side.exchange, times) for name, side in made.items()}
    taken = alternate(sides, rounds)
    for side in made.values():
        side.end()
    row: Row = {"d": f"{d:,}" if d < 1e6 else f"{d / 1e6:g}M"}
    row |= {f"{name} /s": 1 / median(seconds) for name, seconds in taken.items()}
    row |= {f"{name} × pattern": ratio(taken["pattern"], taken[name]) for name in taken if name != "pattern"}
    return row | {"exchanges": times, "raw seconds": taken}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--sizes", help=f"d, between commas; {SIZES} if not given")
    options.add_argument("--servers", type=int, default=1, help="also the Ray engine with so many servers")
    given = options.parse_args()
    rounds = 3 if given.quick else 7
    sizes = (given.sizes or ("51e3" if given.quick else SIZES)).split(",")
    ray.init("local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    rows = []
    for d in map(int, map(float, sizes)):
        times = max(10, min(300, int(1.5e8 / d)))
        rows.append(measure(d, rounds, times, given.servers))
    told = f"wall time, medians of n = {rounds} rounds, sides in turn after one round of warm-up"
    settings: Row = {"method": told, "workers": WORKERS, "threads": 1, "update": "asgd, float32"}
    settings |= {"ray": ray.__version__, "× pattern": "exchanges a second, by those of Ray's documented pattern"}
    report("exchange", "Exchanges per second, without computing.", rows, settings=settings)
    ray.shutdown()


if __name__ == "__main__":
    main()
