"""How many pushes does the simulator process while a plain training loop makes a step, and a published simulator one?

Clock: wall time (time.perf_counter) of the same number of pushes, or steps, in the middle of a long run, sides in
turn. The plain loop and the published style have all cores. Preparation is told apart: choosing, compiling, the first
pushes of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import torch
from baselines import PUBLISHED, PlainLoop
from common import Row, alternate, median, parser, ratio, report, threads
from machine import cores

import unstale
from unstale.engines.base import Plan
from unstale.engines.simulate import prepared
from unstale.tasks import Task, models

WORKERS = 32
EPOCHS = 1000.0  # of the run whose middle is measured: how long it is decides what is worth choosing and compiling


class Case(NamedTuple):
    """A task, a method, and how many pushes make a measurement: whole rounds of the workers."""

    task: Callable[[], Task]
    pushes: int
    method: str = "dana_ga"
    batch_size: int = 32


class Side(Protocol):
    """Anything that goes on for so many pushes or steps."""

    def advance(self, number: int, /) -> None: ...


def pictures(examples: int = 1024) -> Task:
    """ResNet-20 at CIFAR-10's shape, on noise: what is learnt does not matter here."""
    numbers = torch.Generator().manual_seed(0)
    data = torch.randn(examples, 3, 32, 32, generator=numbers), torch.randint(10, (examples,), generator=numbers)
    return Task(models.resnet20, torch.nn.functional.cross_entropy, data, data, name="noise", model_name="resnet20")


CASES = {
    "mlp": Case(partial(unstale.tasks.digits, "mlp"), 2048),
    "mlp-asgd": Case(partial(unstale.tasks.digits, "mlp"), 2048, method="asgd"),
    "resnet8": Case(partial(unstale.tasks.digits, "resnet8"), 512),
    "resnet20": Case(partial(unstale.tasks.digits, "resnet20"), 128),
    "resnet20-32x32": Case(pictures, 32, batch_size=128),
}


def plan(task: Task, method: str = "dana_ga", **changes: object) -> Plan:
    """Of a run that does not end while it is measured."""
    usual: Row = {"workers": WORKERS, "clock": unstale.clocks.Gamma(cv=0.1), "lr": 0.01, "drop_last": True}
    usual |= {"epochs": EPOCHS, "eval_every": 1e9, "strategy": "auto", "executor": "auto"}
    return Plan(task=task, method=unstale.methods.get(method), **usual | changes)  # type: ignore[arg-type]


def timed(side: Side, pushes: int, count: int) -> None:
    """``pushes`` more of a side, on ``count`` torch threads."""
    with threads(count):
        side.advance(pushes)
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def measure(name: str, plan: Plan, pushes: int, rounds: int, count: int) -> tuple[Row, str]:
    """One row, and what the simulator chose."""
    assert pushes * (rounds + 1) + 2 * WORKERS < plan.pushes, "the run would end while it is measured"
    started = time.perf_counter()
    with prepared(plan) as simulation:
        simulation.advance(WORKERS)
        preparation = time.perf_counter() - started
        published = PUBLISHED[str(plan.method.name)](plan)
        seconds = alternate(
            {
                "unstale": partial(timed, simulation, pushes, 1),
                "plain": partial(timed, PlainLoop(plan), pushes, count),
                "published": partial(timed, published, pushes, count),
            },
            rounds,
        )
        chosen = str(simulation.chosen)
    row: Row = {"task": name, "method": plan.method.name}
    row |= {f"{side} /s": pushes / median(taken) for side, taken in seconds.items()}
    row |= {f"× {side}": ratio(seconds[side], seconds["unstale"]) for side in ("plain", "published")}
    return {**row, "prepared in s": preparation, "pushes": pushes, "raw seconds": seconds}, chosen


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tasks", help=f"between commas; {','.join(CASES)}, the last not with --quick")
    options.add_argument("--threads", type=int, default=cores(), help="torch threads of the two opponents")
    options.add_argument("--rounds", type=int, help="9 if not given, 3 with --quick")
    given = options.parse_args()
    rounds, cases = (3, list(CASES)[:-1]) if given.quick else (9, list(CASES))
    rounds = given.rounds or rounds
    rows: list[Row] = []
    chosen: dict[str, str] = {}
    for name in given.tasks.split(",") if given.tasks else cases:
        case = CASES[name]
        pushes = max(WORKERS, case.pushes // 4) if given.quick else case.pushes
        row, chosen[name] = measure(
            name, plan(case.task(), case.method, batch_size=case.batch_size), pushes, rounds, given.threads
        )
        rows.append(row)
    method = f"wall time, medians of n = {rounds} rounds, sides in turn after one round of warm-up"
    settings: Row = {"method": method, "workers": WORKERS, "clock": "Gamma(cv=0.1)", "lr": 0.01}
    settings |= {"of a run of": f"{EPOCHS:g} epochs", "opponents' threads": given.threads, "chosen": chosen}
    question = "Pushes per second against steps per second; × is how many times faster."
    name = "simulate" if not given.tasks else f"simulate_{given.tasks.replace(',', '_').replace('-', '_')}"
    report(name, question, rows, settings=settings)


if __name__ == "__main__":
    main()
