"""Laws that every method keeps, whatever its parts."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from unstale.flat import Group
from unstale.kernels import Blocks
from unstale.methods import Barrier, EveryPush, Method, Scheduled
from unstale.methods.correction import NoCorrection
from unstale.methods.penalty import NoPenalty
from unstale.server import Server
from unstale.testing.contract import contract
from unstale.testing.drive import Arrival, Drive, Subject, round_robin, smooth, start, uneven

__all__: list[str] = []

LR, DECAY = 0.05, 0.02


def every_push_counts(method: Method) -> bool:
    """Whether each push makes an update at once."""
    return method.gather.every_push and isinstance(method.admission, EveryPush)


def close(one: Tensor, other: Tensor, tolerance: float = 1e-9) -> bool:
    """Whether two vectors agree, relative to their size."""
    return bool((one.double() - other.double()).norm() <= tolerance * (1e-12 + other.double().norm()))


def decaying(push: int) -> float:
    """A learning rate that warms up, then falls."""
    return LR * min(1.0, (push + 1) / 5) * (0.1 if push > 25 else 1.0)


def driven(subject: Subject, pushes: int = 40, workers: int = 4, **options: object) -> tuple[Server, list[Arrival]]:
    """A server after so many unevenly timed pushes with changing η."""
    server = subject.serve(start(), workers, **{"weight_decay": DECAY, **options})
    return server, Drive(server, smooth()).run(uneven(workers), pushes, decaying)


def trace(arrivals: list[Arrival]) -> list[object]:
    """Everything that two runs must have in common to be the same."""
    told = [
        (a.receipt.outcome, a.receipt.delay, a.receipt.gap, a.receipt.normalised_gap, a.receipt.penalty)
        for a in arrivals
    ]
    return [*told, *(tuple(a.after.flatten().tolist()) for a in arrivals), *(tuple(a.sent.tolist()) for a in arrivals)]


@contract()
def delay_counts_updates(subject: Subject) -> None:
    """τ is the number of updates between a pull and its push, and conserved: Σ τ + Σ_i (T − t_i) = (N − 1)·T."""
    server = subject.serve(start(), 4)
    drive = Drive(server, smooth())
    version, pulled, total = 0, dict.fromkeys(range(4), 0), 0
    for worker in itertools.islice(uneven(4), 60):
        waited = drive.tickets[worker] is None
        arrival = drive.push(worker, LR)
        if arrival is None:
            continue
        assert not waited
        receipt = arrival.receipt
        assert receipt.delay == version - pulled[worker], f"delay {receipt.delay}, {version - pulled[worker]} updates"
        total += receipt.delay
        version += receipt.applied
        assert receipt.version == version
        for other in (worker, *receipt.released, *receipt.cancelled):
            pulled[other] = version
    if every_push_counts(subject.method) and not isinstance(subject.method.gate, Barrier):
        left = sum(version - at for at in pulled.values())
        assert total + left == 3 * version


@contract()
def gap_is_to_the_sent_point(subject: Subject) -> None:
    """The gap is ‖θ − w_i‖/√d, from θ before the push to the point that this worker was sent."""
    _, arrivals = driven(subject)
    for a in arrivals:
        if a.receipt.gap is not None:
            gap = float((a.before - a.sent).norm()) / math.sqrt(a.sent.numel())
            assert math.isclose(a.receipt.gap, gap, rel_tol=1e-9, abs_tol=1e-12), (a.receipt.gap, gap)


@contract()
def points_are_snapshots(subject: Subject) -> None:
    """A ticket's point does not move while others push."""
    drive = Drive(subject.serve(start(), 3), smooth())
    mine = drive.tickets[2]
    assert mine is not None
    before = mine.params.clone()
    drive.run(round_robin(2), 2, LR)
    assert torch.equal(mine.params, before)


@contract()
def fresh_gradients_are_not_penalised(subject: Subject) -> None:
    """A gradient with τ = 0 is never penalised."""
    bare = Subject(subject.method.replace(penalty=NoPenalty()), Server)
    runs = [driven(s, workers=1)[1] for s in (subject, bare)]
    assert all(a.receipt.penalty == 1 for a in runs[0] if a.receipt.delay == 0)
    assert close(runs[0][-1].after, runs[1][-1].after)


def _stale_terms(method: Method) -> dict[str, Method]:
    """The method without each of its terms against staleness."""
    terms = {"penalty": NoPenalty(), "correction": NoCorrection(), "step_size": Scheduled()}
    return {name: method.replace(**{name: off}) for name, off in terms.items() if getattr(method, name) != off}


@contract(lambda method: bool(_stale_terms(method)))
def stale_terms_act(subject: Subject) -> None:
    """A term against staleness changes what a stale gradient does."""
    order = [0, 1, 2, 3] + [1, 2, 3] * 5 + [0, 1]
    for name, without in _stale_terms(subject.method).items():
        runs = []
        for each in (subject, Subject(without, Server)):
            server = each.serve(start(), 4)
            Drive(server, smooth()).run(order, len(order), LR)
            runs.append(server.params)
        difference = float((runs[0] - runs[1]).norm() / (runs[1] - start()).norm())
        assert difference > 1e-6, f"{name} does nothing: {difference:.1e}"


def _decays_in_gradient(method: Method) -> bool:
    """Whether λθ is added to a gradient that nothing else was done to."""
    return isinstance(method.correction, NoCorrection) and not getattr(method.update, "decoupled", False)


@contract(_decays_in_gradient)
def decay_belongs_to_the_gradient(subject: Subject) -> None:
    """Weight decay is λθ at the server's θ, added before the penalty: the same as pushing g + λθ."""
    decayed = subject.serve(start(), 4, weight_decay=DECAY)
    plain = subject.serve(start(), 4)
    with_decay = Drive(decayed, smooth())
    by_hand = Drive(plain, lambda point, push: smooth()(point, push) + DECAY * plain.params)
    for worker, push in zip(uneven(4), range(40), strict=False):
        with_decay.push(worker, decaying(push))
        by_hand.push(worker, decaying(push))
        assert close(decayed.params, plain.params)


@contract(lambda method: any(state.sum_of for state in method.states.values()))
def sums_stay_sums(subject: Subject) -> None:
    """A state declared as a sum over workers is that sum after every push, also when workers leave and join."""
    server = subject.serve(start(), 4)
    drive = Drive(server, smooth())

    def hold() -> None:
        for name, state in subject.method.states.items():
            if state.sum_of is not None:
                total = torch.stack([server.state(state.sum_of, worker) for worker in server.workers]).sum(0)
                assert close(server.state(name), total, 1e-7), f"{name} is not the sum of {state.sum_of}"

    for worker in itertools.islice(uneven(4), 20):
        drive.push(worker, LR)
        hold()
    assert any(float(server.state(name).norm()) for name, state in subject.method.states.items() if state.sum_of)
    server.depart(2)
    hold()
    joined = server.join()
    hold()
    drive.tickets[joined] = server.pull(joined)
    drive.push(joined, LR)
    hold()


@contract()
def precision_only_rounds(subject: Subject) -> None:
    """The dtype of the parameters changes rounding, and nothing else."""
    exact, _ = driven(subject, 20)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 0.1), (torch.float16, 0.02)):
        server = subject.serve(start(dtype=dtype), 4, weight_decay=DECAY)
        arrivals = Drive(server, smooth()).run(uneven(4), 20, decaying)
        assert server.params.dtype == dtype
        assert arrivals[-1].sent.dtype == dtype
        moved, expected = server.params.double() - start(dtype=dtype).double(), exact.params - start()
        assert close(moved, expected, tolerance), f"{dtype}: {moved} instead of {expected}"


@contract()
def blocks_do_not_show(subject: Subject) -> None:
    """Parameters, points and figures are the same to the bit whatever the size of the blocks."""
    traces = []
    for size in (1024, 2048, 65_536):
        server = subject.serve(start(5000, torch.float32), 3, weight_decay=DECAY, executor=Blocks(size))
        traces.append(trace(Drive(server, smooth()).run(uneven(3), 8, decaying)))
    assert traces[0] == traces[1] == traces[2]


@contract()
def groups_do_not_mix(subject: Subject) -> None:
    """Each parameter group has its own η and λ, as if it were alone, for methods that work element by element."""
    if subject.method.penalty.over != "element":
        return
    lone = [subject.serve(start()[:4], 3), subject.serve(start()[4:], 3, weight_decay=DECAY)]
    groups = [Group(slice(4, 6), lr_scale=0.5, weight_decay=DECAY)]
    both = subject.serve(start(), 3, groups=groups)
    drives = [Drive(server, lambda point, push: point * 0.5 + 0.1 * (push % 3)) for server in (*lone, both)]
    for worker, push in zip(uneven(3), range(20), strict=False):
        for drive, scale in zip(drives, (1.0, 0.5, 1.0), strict=True):
            drive.push(worker, scale * decaying(push))
    assert close(both.params, torch.cat([server.params for server in lone]))


@contract()
def zero_rate_moves_nothing(subject: Subject) -> None:
    """With η = 0 nothing moves, and nothing is NaN."""
    server = subject.serve(start(), 3, weight_decay=DECAY)
    arrivals = Drive(server, smooth()).run(uneven(3), 12, 0.0)
    assert torch.equal(server.params, start())
    assert all(not math.isnan(a.receipt.penalty or 1.0) for a in arrivals)
