"""Which strategy suits a run here: what is asked for is tried, and "auto" measures."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from unstale.engines.gradients.strategy import Strategy, strategy
from unstale.engines.gradients.trial import Trial
from unstale.flat import Layout
from unstale.tickets import Ticket

if TYPE_CHECKING:
    from unstale.engines.base import Plan

__all__ = ["Chosen", "choose"]

LITTLE = 3.0  # seconds of work that are not worth measuring for
BUDGET = 2.0  # seconds of measuring
LANES = (8, 16)
# Seconds that torch.compile takes: a start, and something for each layer. On two cores, of 2021 and of 2024.
COMPILE_START, COMPILE_LAYER = 8.0, 2.5
COMPILE_SAVES = 0.2  # what it can be expected to save of the time, on networks that were tried
Chosen = tuple[Strategy, str]
"""A strategy, and why it was chosen, in one line."""

# What was chosen in this process: the same run twice is the same to the bit.
_remembered: dict[str, Chosen] = {}


def choose(
    plan: Plan, module: nn.Module, layout: Layout, tickets: Sequence[Ticket], pushes: int, threads: int
) -> Chosen:
    """The strategy of a run of ``pushes`` gradients, of which ``tickets`` are the first that are out."""
    asked = strategy(plan.strategy)
    reference = Strategy()
    if asked == reference:
        return reference, "as asked"
    if len(tickets) < 2:
        return reference, "one worker has one gradient out at a time"
    if asked is not None and asked.way == "batched":
        asked = replace(asked, lanes=min(asked.lanes, len(tickets)))
    key = _key(plan, module, layout, len(tickets), pushes, threads)
    if asked is None and key in _remembered:
        return _remembered[key]
    trial = Trial(plan, module, layout, tickets)
    try:
        if asked is None:
            _remembered[key] = _measured(trial, pushes, threads)
            return _remembered[key]
        why = trial.objection(asked)
        return (reference, f"one by one instead of {asked}: {why}") if why else (asked, "as asked")
    finally:
        trial.close()


def _measured(trial: Trial, pushes: int, threads: int) -> Chosen:
    alone = Strategy()
    costs = {alone: trial.seconds(alone)}
    if costs[alone] * pushes < LITTLE:
        return alone, f"{pushes:,} gradients of {1e3 * costs[alone]:.2g} ms are too few to measure for"
    notes = []
    deadline = time.perf_counter() + BUDGET
    for candidate in _candidates(len(trial.tickets), threads, cuda=trial.plan.device.startswith("cuda")):
        if time.perf_counter() > deadline:
            break
        why = trial.objection(candidate)
        if why:
            notes.append(f"{candidate.way}: {why}")
        else:
            costs[candidate] = trial.seconds(candidate)
        trial.close()  # at once, for each has memory of its own
    best = min(costs, key=lambda s: costs[s])
    told = ", ".join(f"{s} {1e3 * cost:.2g} ms" for s, cost in costs.items())
    best = _compiled(best, costs[best], costs[best] * pushes, trial, notes)
    return best, "; ".join([f"{best}: a gradient takes {told}", *dict.fromkeys(notes)])


def _compiled(best: Strategy, eager: float, seconds: float, trial: Trial, notes: list[str]) -> Strategy:
    """The same compiled, if what is left is long enough to pay for it."""
    layers = sum(not list(child.children()) for child in trial.module.modules())
    price = COMPILE_START + COMPILE_LAYER * layers
    if best.way != "batched" or COMPILE_SAVES * seconds < 2 * price:
        return best
    compiled = replace(best, compiled=True)
    if why := trial.objection(compiled):
        notes.append(f"not compiled: {why}")
        return best
    if (faster := trial.seconds(compiled)) > eager:
        notes.append(f"compiled {1e3 * faster:.2g} ms")
        return best
    notes.append(f"compiling takes about {price:.0f} s of {seconds:.0f} s")
    return compiled


def _candidates(out: int, threads: int, *, cuda: bool) -> list[Strategy]:
    """The cheapest to try come first: slow networks leave no time for all of them."""
    threads = min(threads, out)
    lanes = sorted({min(n, out) for n in LANES})
    # A group for each thread, and one more whose gradients are committed meanwhile: else threads wait for tickets.
    room = {min(n, out // (threads + 1)) for n in LANES} if threads > 1 else set()
    several = [Strategy("batched", lanes=n, threads=threads) for n in sorted(room) if n > 1]
    alone = [Strategy("batched", lanes=n) for n in lanes]
    if cuda:
        return [*(replace(s, graphs=True) for s in reversed(alone)), *several, *alone]
    one_each = [Strategy("threads", threads=threads)] if threads > 1 else []
    return sorted([*one_each, *several, *alone], key=lambda s: s.width)


def _key(plan: Plan, module: nn.Module, layout: Layout, out: int, pushes: int, threads: int) -> str:
    described = plan.describe()
    made = [repr(module), [(layer.name, list(layer.shape)) for layer in layout.layers]]
    same = ("task", "batch_size", "dtype", "device", "precision", "memory_format", "drop_last")
    return json.dumps([[described[name] for name in same], made, out, pushes, threads])
