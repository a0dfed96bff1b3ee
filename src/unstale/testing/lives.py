"""Laws of a server's life: workers leave, states are saved, rounds are held."""

from __future__ import annotations

import torch

from unstale.methods import Barrier
from unstale.testing.contract import contract
from unstale.testing.drive import Drive, Subject, round_robin, smooth, start, uneven
from unstale.testing.laws import DECAY, LR, close, decaying, trace

__all__: list[str] = []


@contract()
def departed_workers_are_not_missed(subject: Subject) -> None:
    """When workers leave in the middle, the others go on, without deadlock, and every batch is accepted once."""
    server = subject.serve(start(), 4, batches=30)
    drive = Drive(server, smooth())
    drive.run(round_robin(4), 6, LR)
    for worker in (3, 1):
        for other in server.depart(worker):
            drive.tickets[other] = server.pull(other)
        del drive.tickets[worker]
    for _ in range(200):
        for worker in (0, 2):
            if drive.tickets[worker] is None:
                drive.tickets[worker] = server.pull(worker)
            drive.push(worker, LR)
    assert server.finished, "the run does not drain"
    assert server.progress == 30
    assert bool(server.params.isfinite().all())


@contract()
def saved_states_continue(subject: Subject) -> None:
    """A server restored at any push goes on bit for bit, with the tickets that were out."""
    for pushes in (0, 1, 7, 13):
        server = subject.serve(start(), 3, weight_decay=DECAY)
        drive = Drive(server, smooth())
        drive.run(uneven(3), pushes, lambda push: 2 * LR)
        copy = subject.serve(start(), 3, weight_decay=DECAY)
        copy.load_state_dict(server.state_dict())
        again = Drive.__new__(Drive)
        again.server, again.gradient, again.pushes = copy, smooth(), drive.pushes
        again.tickets = dict.fromkeys(server.workers, None) | {t.worker: t for t in copy.outstanding()}
        later = [d.run(uneven(3, seed=9), 9, LR) for d in (drive, again)]
        assert trace(later[0]) == trace(later[1]), f"differs after {pushes} pushes"


@contract()
def exchange_is_push_and_pull(subject: Subject) -> None:
    """`exchange` gives the same point as `push` followed by `pull`."""
    one, two = (subject.serve(start(), 3, weight_decay=DECAY) for _ in range(2))
    drive = Drive(one, smooth())
    tickets = {worker: two.pull(worker) for worker in two.workers}
    for worker, push in zip(uneven(3), range(25), strict=False):
        ticket = tickets[worker]
        if ticket is not None:
            gradient = smooth()(ticket.params, drive.pushes)
            receipt = two.push(ticket, gradient, lr=decaying(push))
            tickets[worker] = two.pull(worker)
            for other in (*receipt.released, *receipt.cancelled):
                tickets[other] = two.pull(other)
        drive.push(worker, decaying(push))
        assert torch.equal(one.params, two.params)
        for mine, theirs in zip(drive.tickets.values(), tickets.values(), strict=True):
            assert (mine is None) == (theirs is None)
            assert mine is None or theirs is None or torch.equal(mine.params, theirs.params)


@contract(lambda method: not method.gather.every_push)
def gathers_average(subject: Subject) -> None:
    """Equal fresh gradients gathered into one update do what one of them would, and each of them counts."""
    alone = subject.serve(start(), 1)
    target = subject.method.gather.target(6)
    server = subject.serve(start(), 6)
    gradients = [torch.full((6,), float(k + 1), dtype=torch.float64) for k in range(target)]
    tickets = [server.pull(worker % 6) if worker < 6 else None for worker in range(target)]
    for k, gradient in enumerate(gradients):
        ticket = tickets[k] or server.pull(k % 6)
        assert ticket is not None
        assert server.push(ticket, gradient, lr=LR).outcome == ("applied" if k == target - 1 else "held")
    mean = torch.stack(gradients).mean(0)
    for _ in range(subject.method.gather.target(1)):
        ticket = alone.pull(0)
        assert ticket is not None
        alone.push(ticket, mean, lr=LR)
    assert alone.version == server.version == 1
    assert close(server.params, alone.params)


@contract(lambda method: isinstance(method.gate, Barrier))
def barriers_wait(subject: Subject) -> None:
    """A worker whose gradient waits in the gather cannot start; the push that completes it releases all."""
    server = subject.serve(start(), 4)
    target = subject.method.gather.target(4)
    tickets = [server.pull(worker) for worker in range(4)]
    for worker in range(target - 1):
        ticket = tickets[worker]
        assert ticket is not None
        assert server.push(ticket, smooth()(ticket.params, worker), lr=LR).outcome == "held"
        assert server.pull(worker) is None, "a worker started twice in one round"
    last = tickets[target - 1]
    assert last is not None
    receipt = server.push(last, smooth()(last.params, 9), lr=LR)
    assert receipt.applied
    assert receipt.released == tuple(range(target - 1))
