"""Golden histories, small enough to check by hand: one weight of 1, every gradient 2, two workers in turns, η = 0.1.

Written anew by ``python -m tests.golden.histories``; a change of these files is a change of what a method does.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from unstale.methods import get, names
from unstale.server import Server

FOLDER = Path(__file__).parent


def history(name: str) -> list[dict[str, object]]:
    """Six pushes: who, what became of it, τ, P, where it was computed, and θ afterwards."""
    server = Server(torch.ones(1, dtype=torch.float64), get(name), 2)
    tickets = {worker: server.pull(worker) for worker in (0, 1)}
    rows: list[dict[str, object]] = []
    for push in range(6):
        ticket = tickets[push % 2] or server.pull(push % 2)
        if ticket is None:
            rows.append({"worker": push % 2, "outcome": "waits"})
            continue
        point = round(float(ticket.params), 9)
        receipt, tickets[push % 2] = server.exchange(ticket, torch.full((1,), 2.0, dtype=torch.float64), lr=0.1)
        told = {"worker": receipt.worker, "outcome": receipt.outcome, "delay": receipt.delay}
        penalty = None if receipt.penalty is None else round(receipt.penalty, 9)
        rows.append({**told, "penalty": penalty, "point": point, "theta": round(float(server.params), 9)})
    return rows


def rendered(name: str) -> str:
    """A history as its file has it: one push a line."""
    lines = ",\n".join(json.dumps(row) for row in history(name))
    return f"[\n{lines}\n]\n"


def main() -> None:
    """Write all files."""
    for name in names():
        (FOLDER / f"{name}.json").write_text(rendered(name), encoding="utf-8")


if __name__ == "__main__":
    main()
