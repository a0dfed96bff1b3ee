"""On a GPU: does the simulator compute the same there, and how does it compare with plain eager training?

First a few pushes against the CPU in float64. Then as in simulate.py: wall time (time.perf_counter, the device
synchronised) of the same number of pushes or steps, sides in turn, everybody on the same GPU.
"""

from __future__ import annotations

import sys

import torch
from common import Row, parser, report
from machine import cores
from simulate import WORKERS, measure, pictures, plan

from unstale.engines.simulate import prepared
from unstale.tasks import Task

TOLERANCE = 1e-8  # of two float64 results; a wrong equation differs by far more than rounding


def parameters(task: Task, device: str, dtype: torch.dtype) -> torch.Tensor:
    """θ after three pushes of each of four workers, (d,) float64."""
    strategy = "sequential" if device == "cpu" else "auto"
    made = plan(task, workers=4, batch_size=16, device=device, dtype=dtype, strategy=strategy)
    with prepared(made) as simulation:
        simulation.advance(12)
        params: torch.Tensor = simulation.server.params
        return params.double().cpu()


def difference(task: Task, dtype: torch.dtype) -> float:
    """‖θ − θ_cpu‖/‖θ_cpu − θ_0‖: error of what was learnt, against the CPU in float64."""
    right = parameters(task, "cpu", torch.float64)
    start = torch.cat([p.detach().double().reshape(-1) for p in task.build(0).parameters()])
    return float((parameters(task, "cuda", dtype) - right).norm() / (right - start).norm())


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--pushes", type=int, default=320, help="in a measurement; 320 if not given")
    given = options.parse_args()
    if not torch.cuda.is_available():
        print("no GPU that torch can use here: nothing to measure")
        return
    task = pictures()
    errors = {str(dtype): difference(task, dtype) for dtype in (torch.float64, torch.float32)}
    print("relative difference from the CPU in float64:", errors)
    if not errors["torch.float64"] < TOLERANCE:
        sys.exit("the GPU computes something else than the CPU: its speed is of no interest")
    rounds, pushes = (3, WORKERS) if given.quick else (9, given.pushes)
    # Torch's own default is TF32 in convolutions: all sides have the same arithmetic, once without it and once with.
    rows: list[Row] = []
    chosen: dict[str, str] = {}
    for precision in ("full", "tf32"):
        run = plan(task, batch_size=128, device="cuda", precision=precision)
        row, chosen[precision] = measure(f"32x32 {precision}", run, pushes, rounds, cores())
        rows.append(row)
    method = f"wall time, medians of n = {rounds} rounds, sides in turn after one round of warm-up"
    settings: Row = {"method": method, "workers": WORKERS, "batch size": 128, "clock": "Gamma(cv=0.1)", "lr": 0.01}
    settings |= {"difference from CPU float64": errors, "chosen": chosen}
    question = "Pushes per second against steps per second on a GPU; × is how many times faster."
    report("gpu", question, rows, settings=settings)


if __name__ == "__main__":
    main()
