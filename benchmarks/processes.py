"""How much of what unequal workers can compute reaches the server, and how much with DDP? And how soon is it learnt?

Workers are slowed down to a clock's times (gamma, 50 ms in the mean, V_mach = 0.6), so that two cores can stand for
sixteen machines. Ideal is the sum of 1/mean over the workers, from the times that the clock gave them. Clock: wall
time between pushes in the middle of a run, evaluations and start not counted; sides in turn.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from common import Row, alternate, median, parser, ratio, report
from ddp import ddp
from torch import Tensor, nn

import unstale
from unstale.clocks import Gamma
from unstale.engines.base import Plan
from unstale.tasks import Task

WORKERS, SIZE = 16, 270_000
PACE = Gamma(mean=0.05, cv=0.1, heterogeneity=0.6)
TARGET = 0.25  # test loss


class Vector(nn.Module):
    """So many parameters, and next to nothing to compute."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return self.point[: x.shape[1]] - x


def vectors(size: int = SIZE) -> Task:
    x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    return Task(partial(Vector, size), nn.functional.mse_loss, (x, torch.zeros(256, 4)), (x, torch.zeros(256, 4)))


def plan(task: Task, method: str, pushes: int, lr: float) -> Plan:
    epochs = pushes * 32 / task.train_size
    found = unstale.methods.get(method)
    return Plan(task=task, method=found, workers=WORKERS, lr=lr, epochs=epochs, drop_last=True, eval_every=1e9)


def ideal(pushes: int) -> float:
    """Gradients per second that the workers could compute, by the times that the clock gives them."""
    means = PACE.durations(WORKERS, 0, max(64, pushes // WORKERS), 0).mean(axis=1)
    return float((1 / means).sum())


def pushed(pushes: int) -> float:
    """Seconds a push, of real workers in the middle of a run."""
    given = plan(vectors(), "dana_ga", pushes, 0.01)
    run = unstale.train(
        given.task, given.method, WORKERS, engine="processes", pace=PACE, lr=given.lr, epochs=given.epochs,
        drop_last=True, eval_every=1e9,
    )  # fmt: skip
    times = run.history["time"].to_numpy()[pushes // 4 : -WORKERS]
    return float((times[-1] - times[0]) / (len(times) - 1))


def stepped(steps: int) -> float:
    """Seconds a gradient, of DDP in the middle of a run."""
    seconds = ddp(plan(vectors(), "sync", steps * WORKERS, 0.01), PACE, steps).seconds[steps // 4 :]
    return float((seconds[-1] - seconds[0]) / (len(seconds) - 1)) / WORKERS


def throughput(rounds: int, pushes: int, steps: int) -> Row:
    best = ideal(pushes)
    seconds = alternate({"unstale": partial(pushed, pushes), "ddp": partial(stepped, steps)}, rounds, warmup=0)
    row: Row = {"d": SIZE, "method": "dana_ga", "ideal /s": best}
    row |= {f"{side} /s": 1 / median(taken) for side, taken in seconds.items()}
    shares = [1 / (one * best) for one in seconds["unstale"]]
    row["of ideal"] = {"ratio": median(shares), "low": min(shares), "high": max(shares)}
    return {**row, "× ddp": ratio(seconds["ddp"], seconds["unstale"]), "raw seconds": seconds}


def learnt(rates: dict[str, float], epochs: int) -> dict[str, float]:
    """Seconds until the test loss of the digits' MLP is ``TARGET``, evaluations not counted."""
    task = unstale.tasks.digits("mlp")
    run = unstale.train(
        task, "dana_ga", WORKERS, engine="processes", pace=PACE, lr=rates["unstale"], epochs=epochs, eval_every=1.0
    )
    found = run.evaluations[run.evaluations["loss"] <= TARGET]
    first = float(run.history["time"].iloc[0])
    ours = float(found["time"].iloc[0]) - first if len(found) else np.inf
    steps = epochs * task.train_size // (32 * WORKERS)
    every = max(1, task.train_size // (32 * WORKERS))
    given = Plan(task=task, method=unstale.methods.get("sync"), workers=WORKERS, lr=rates["ddp"], epochs=epochs)
    theirs = next((s for s, loss in ddp(given, PACE, steps, every).losses if loss <= TARGET), np.inf)
    return {"unstale": ours, "ddp": theirs}


def main() -> None:
    given = parser(__doc__).parse_args()
    rounds, pushes, steps = (1, 1500, 40) if given.quick else (5, 6000, 150)
    row = throughput(rounds, pushes, steps)
    # DDP's step is of 16 batches: it gets the best of several rates, found on the same measure.
    rates = [0.05, 0.1, 0.2] if given.quick else [0.03, 0.05, 0.1, 0.2, 0.4]
    times = [learnt({"unstale": 0.03, "ddp": rate}, 20 if given.quick else 40) for rate in rates]
    best = min(range(len(rates)), key=lambda n: times[n]["ddp"])
    ours = [one["unstale"] for one in times]
    row |= {"s to loss": median(ours), "ddp's": times[best]["ddp"], "its lr": rates[best], "raw to loss": times}
    method = f"wall time, medians of n = {rounds} rounds, sides in turn; to the loss: n = {len(rates)}, and DDP's best"
    settings: Row = {"method": method, "workers": WORKERS, "pace": str(PACE), "pushes": pushes, "steps": steps}
    settings |= {"loss": f"digits, MLP, batches of 32, test loss {TARGET:g}, DANA-GA at lr 0.03"}
    report(
        "processes",
        "Gradients per second of sixteen unequal workers, and time to the same loss.",
        [row],
        settings=settings,
    )


if __name__ == "__main__":
    main()
