"""Which batch is out with whom; every batch accepted exactly once, or named.

Batches are numbered 0, 1, 2, … through all epochs. A batch is waiting, out on a ticket, accepted, or quarantined.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from unstale import checks
from unstale.flat import Layout, load, load_buffers
from unstale.queues import queue

__all__ = ["Entry", "Ledger", "Start", "Ticket"]

MAX_FAILURES = 3


class Start(NamedTuple):
    """What a ticket of a stream starts from: the stream's number, its memory, and whether that was reset."""

    stream: int | None = None
    memory: tuple[Tensor, ...] = ()
    reset: bool = False


NO_STREAM = Start()


@dataclass(frozen=True, eq=False)
class Ticket:
    """Leave to compute one gradient: at ``params``, (d,), on batch number ``batch`` of epoch ``epoch``.

    ``params`` is valid until the ticket is pushed or superseded, and is to be read only: clone it to change it.
    ``buffers`` are the model buffers to run with (BatchNorm's zeroed, so that they come back with this ticket's share).
    Where batches make streams, ``start`` tells this one's stream and the memory to start from.
    """

    number: int
    incarnation: str
    worker: int
    version: int
    batch: int
    epoch: int
    params: Tensor
    buffers: Mapping[str, Tensor]
    layout: Layout = field(repr=False)
    start: Start = field(default=NO_STREAM, repr=False)
    # In-place changes of params count up its version; the server compares.
    written: int = field(default=0, repr=False)

    @torch.no_grad()
    def load(self, module: nn.Module) -> None:
        """Put the point and the buffers into ``module``, and clear its gradients.

        Raises `ArgumentError` for a module that is not like the server's.
        """
        load(self.params, module, self.layout)
        load_buffers(self.buffers, module)
        module.zero_grad(set_to_none=True)

    def renumbered(self, number: int) -> Ticket:
        """One of another number, to ask a server what became of that."""
        return replace(self, number=number, batch=-1)

    @property
    def key(self) -> tuple[str, int]:
        """What tells this ticket from all others, also over restarts."""
        return self.incarnation, self.number


@dataclass(frozen=True)
class Entry:
    """What the server itself knows of a ticket that is out."""

    key: tuple[str, int]
    worker: int
    version: int
    batch: int


class Ledger:
    """Hands out batches, takes them back, and knows which tickets still count.

    ``total`` batches are to be accepted (None: no end), ``per_epoch`` of them make one epoch, and ``per_stream`` a
    stream (None: they make none).
    """

    def __init__(self, total: int | None = None, per_epoch: int = 1, per_stream: int | None = None) -> None:
        self.total = None if total is None else checks.whole("batches", total, 1)
        self.per_epoch = checks.whole("batches_per_epoch", per_epoch, 1)
        self.queue = queue(self.total, per_stream)
        self.incarnations = [uuid.uuid4().hex]
        self.out: dict[tuple[str, int], Entry] = {}
        self.by_worker: dict[int, tuple[str, int]] = {}
        self.accepted = 0
        self.quarantined: list[int] = []
        self._number = 0
        self._failures: Counter[int] = Counter()
        self._void: set[tuple[str, int]] = set()

    @property
    def available(self) -> bool:
        """Whether there is a batch to hand out."""
        return self.queue.available

    @property
    def settled(self) -> bool:
        """Whether nothing is out and nothing is left to hand out."""
        return not self.out and not self.available

    @property
    def progress(self) -> float:
        """Epochs of data accepted."""
        return self.accepted / self.per_epoch

    def issue(self, worker: int, version: int) -> Entry:
        """The next batch, for ``worker`` at ``version``."""
        entry = Entry((self.incarnations[-1], self._number), worker, version, self.queue.take(worker))
        self._number += 1
        self.out[entry.key] = entry
        self.by_worker[worker] = entry.key
        return entry

    def ticket(
        self, entry: Entry, point: Tensor, buffers: Mapping[str, Tensor], layout: Layout, start: Start = NO_STREAM
    ) -> Ticket:
        """What the worker gets for ``entry``."""
        return Ticket(
            number=entry.key[1],
            incarnation=entry.key[0],
            worker=entry.worker,
            version=entry.version,
            batch=entry.batch,
            epoch=entry.batch // self.per_epoch,
            params=point,
            buffers=buffers,
            layout=layout,
            start=start,
            written=point._version,
        )

    def held_by(self, worker: int) -> Entry | None:
        """The ticket that ``worker`` has out."""
        key = self.by_worker.get(worker)
        return None if key is None else self.out[key]

    def standing(self, ticket: Ticket) -> tuple[Entry | None, Literal["late", "spent"], str]:
        """The entry of a ticket that counts, or why it does not."""
        if ticket.key in self.out:
            return self.out[ticket.key], "late", ""
        if ticket.key in self._void:
            return None, "late", f"ticket {ticket.number} had expired, was cancelled, or was superseded by a later pull"
        if ticket.incarnation in self.incarnations:
            return None, "spent", f"ticket {ticket.number} was pushed before"
        return None, "spent", f"ticket {ticket.number} was not issued by this server"

    def accept(self, entry: Entry) -> None:
        """The batch is done."""
        self._close(entry)
        self.queue.done(entry.batch)
        self.accepted += 1
        self._failures.pop(entry.batch, None)

    def give_back(self, entry: Entry, *, void: bool) -> None:
        """The batch goes back into the queue; with ``void``, a push that still comes is late rather than spent."""
        self._close(entry)
        if void:
            self._void.add(entry.key)
        self.queue.put_back(entry.batch)

    def fail(self, entry: Entry, *, void: bool) -> None:
        """The same for a batch that did harm; the third time it is quarantined."""
        self._failures[entry.batch] += 1
        if self._failures[entry.batch] < MAX_FAILURES:
            return self.give_back(entry, void=void)
        self._close(entry)
        if void:
            self._void.add(entry.key)
        self.queue.done(entry.batch)
        return self.quarantined.append(entry.batch)

    def _close(self, entry: Entry) -> None:
        del self.out[entry.key]
        del self.by_worker[entry.worker]

    def state_dict(self) -> dict[str, Any]:
        """Plain values only."""
        return {
            "total": self.total,
            "per_epoch": self.per_epoch,
            "incarnations": list(self.incarnations),
            "out": [[*e.key, e.worker, e.version, e.batch] for e in self.out.values()],
            "accepted": self.accepted,
            "quarantined": list(self.quarantined),
            "number": self._number,
            "queue": self.queue.state_dict(),
            "failures": [[batch, times] for batch, times in sorted(self._failures.items())],
            "void": sorted(list(key) for key in self._void),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: tickets that were out still count, new ones carry a new incarnation."""
        # A new incarnation with every load, so new tickets cannot be taken for those issued before it.
        self.incarnations = [*state["incarnations"], uuid.uuid4().hex]
        entries = [Entry((incarnation, number), *rest) for incarnation, number, *rest in state["out"]]
        self.out = {entry.key: entry for entry in entries}
        self.by_worker = {entry.worker: entry.key for entry in entries}
        self.accepted, self.quarantined = state["accepted"], list(state["quarantined"])
        self._number = state["number"]
        self.queue.load_state_dict(state["queue"])
        self._failures = Counter(dict(state["failures"]))
        self._void = {(incarnation, number) for incarnation, number in state["void"]}
