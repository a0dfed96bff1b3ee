"""The server: `pull`, `push`, `exchange`. The only place where parameters change, for every method and every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor, nn

from unstale import checks, flat, intake, kernels
from unstale.buffers import Buffers, Policy
from unstale.desk import Desk
from unstale.errors import NonFiniteError
from unstale.measure import Outcome, Receipt
from unstale.memory import Memory
from unstale.methods.base import Method
from unstale.methods.catalogue import get
from unstale.methods.steps import Steps
from unstale.resumable import Resumable
from unstale.schedules import rate_of_push
from unstale.stepper import Stepper
from unstale.streams import Memories
from unstale.tickets import Entry, Ledger, Ticket

__all__ = ["NonFinite", "Server"]

NonFinite = Literal["reject", "raise", "apply"]
Rate = float | Callable[[float], float]


class Server(Resumable):
    """Holds the parameters and runs one method on them.

    params: a (d,) float tensor, which is copied, or a module, whose trainable parameters are.
    method: a `Method`, or the name of a published one.
    workers: how many there are at the start, numbered from 0.
    lr: η, or a function of progress; each push may name its own.
    weight_decay: λ, added at θ and penalised with the gradient; groups: other λ or η for some parameters (`Group`).
    measure: whether receipts carry gap and penalty; keeps the sent points and R even for methods that need neither.
    on_nonfinite: what a gradient with NaN or Inf does: it is refused, raises `NonFiniteError`, or is applied.
    batch_norm: what becomes of BatchNorm's running statistics, see `Buffers`.
    batches, batches_per_epoch: how many batches to accept in all, and per epoch of progress (default: no end, 1).
    batches_per_stream: so many consecutive batches make a stream, which has a memory (default: no streams).
    executor: "blocks", "compiled", "auto" (compiled once there is enough to do), or an `Executor`.

    Raises `ArgumentError` for an argument that breaks these rules. Not thread-safe: an engine calls it from one thread.
    """

    # Seams: a subclass may order the equations, run them, or keep them and the books in another way.
    steps_type: ClassVar[type[Steps]] = Steps
    stepper_type: Callable[..., Stepper] = Stepper
    memory_type: ClassVar[type[Memory]] = Memory
    desk_type: ClassVar[type[Desk]] = Desk

    def __init__(
        self,
        params: Tensor | nn.Module,
        method: str | Method,
        workers: int,
        *,
        lr: Rate | None = None,
        weight_decay: float = 0.0,
        groups: Sequence[flat.Group] = (),
        measure: bool = True,
        on_nonfinite: NonFinite = "reject",
        batch_norm: Policy = "shared",
        batches: int | None = None,
        batches_per_epoch: int = 1,
        batches_per_stream: int | None = None,
        executor: str | kernels.Executor = "auto",
    ) -> None:
        checks.choice("on_nonfinite", on_nonfinite, get_args(NonFinite))
        numbers = range(checks.whole("workers", workers, 1))
        self.method = get(method)
        self.layout, vector = intake.flatten(params, groups, checks.nonnegative("weight_decay", weight_decay))
        self.lr = lr if lr is None or callable(lr) else checks.nonnegative("lr", lr)
        self.on_nonfinite = on_nonfinite
        self.buffers = Buffers(params if isinstance(params, nn.Module) else None, batch_norm)
        steps = self.steps_type(self.method, measured=measure)
        memory = partial(self.memory_type, workers=numbers)
        self._stepper = self.stepper_type(steps, self.layout, kernels.executor(executor), memory, vector)
        self._memory = self._stepper.memory
        if batches_per_stream is not None:
            batches_per_stream = checks.whole("batches_per_stream", batches_per_stream, 1)
        self._memories = Memories(batches_per_stream, vector.device)
        self._desk = self.desk_type(self.method, Ledger(batches, batches_per_epoch, batches_per_stream), numbers)

    # The life of one gradient.

    def pull(self, worker: int) -> Ticket | None:
        """A ticket for ``worker``, or None: it has to wait, until a receipt names it as released.

        A second pull supersedes the worker's first ticket.
        """
        self._desk.supersede(self._desk.alive(worker))
        if not self._desk.may_start(worker):
            self._desk.waiting.add(worker)
            return None
        entry = self._desk.issue(worker, self.version)
        return self._ticket(entry, self._stepper.point(worker, len(self._desk.workers)))

    def push(
        self,
        ticket: Ticket,
        gradient: Tensor | nn.Module,
        lr: float | None = None,
        *,
        buffers: Mapping[str, Tensor] | None = None,
        memory: Sequence[Tensor] | None = None,
    ) -> Receipt:
        """Hand in a gradient: a (d,) tensor of the parameters' dtype and device, or the module with its ``.grad``s.

        A tensor is in the order of ``layout.layers``: the module's own, or group by group where there are groups.
        ``lr`` is η of this push (default: the server's). ``buffers`` are the model's after the forward pass, if it has
        any and the gradient comes as a tensor; ``memory`` is what the batch leaves to the next one of its stream, where
        batches make streams. Raises `GradientError` for a gradient that does not fit and
        `ArgumentError` for a bad ``lr``; then nothing has changed and the ticket still counts.
        """
        return self._push(ticket, gradient, lr, buffers, memory, reply=False)[0]

    def exchange(
        self,
        ticket: Ticket,
        gradient: Tensor | nn.Module,
        lr: float | None = None,
        *,
        buffers: Mapping[str, Tensor] | None = None,
        memory: Sequence[Tensor] | None = None,
    ) -> tuple[Receipt, Ticket | None]:
        """`push`, and `pull` by the same worker, in one pass over memory. After a late or spent ticket, no pull."""
        receipt, answer = self._push(ticket, gradient, lr, buffers, memory, reply=True)
        if answer is None and receipt.counted:
            answer = self.pull(receipt.worker)
        return receipt, answer

    # Workers come and go.

    def join(self, worker: int | None = None) -> int:
        """A new worker, by the lowest free number or that one."""
        worker = self._desk.join(worker)
        self._memory.join(worker)
        self._stepper.moved()
        return worker

    def depart(self, worker: int, *, failed: bool = False) -> tuple[int, ...]:
        """A worker left; ``failed`` if it died over its batch. Its batch goes back into the queue.

        Answers the workers that waited and may pull now.
        """
        self._desk.leave(self._desk.alive(worker), failed=failed)
        self._memory.leave(worker)
        self._stepper.moved()
        self.buffers.forget(worker)
        return self._settle()

    def expire(self, ticket: Ticket) -> tuple[int, ...]:
        """Stop waiting for a ticket: its batch goes back, and a push that still comes is late. Answers as `depart`."""
        intake.ticket(ticket)
        entry, _, _ = self._desk.ledger.standing(ticket)
        if entry is not None:
            self._desk.ledger.give_back(entry, void=True)
            self._desk.ledger.queue.release(entry.worker)
        return self._settle()

    def place_points(self, places: Callable[[int], Tensor]) -> None:
        """Before the first pull: write each worker's points where ``places(worker)`` says, (d,) like the parameters."""
        self._memory.places = places

    # How.

    def _push(
        self,
        ticket: Ticket,
        gradient: Tensor | nn.Module,
        lr: float | None,
        buffers: Mapping[str, Tensor] | None,
        memory: Sequence[Tensor] | None,
        *,
        reply: bool,
    ) -> tuple[Receipt, Ticket | None]:
        intake.ticket(ticket)
        entry, refusal, reason = self._desk.ledger.standing(ticket)
        about: dict[str, Any] = {"worker": ticket.worker, "ticket": ticket.number, "progress": self.progress}
        if entry is None:
            return self._receipt(refusal, about, reason), None
        vector, buffers = self._taken(gradient, buffers)
        intake.unchanged(ticket, self._memory)
        self.buffers.check(buffers)
        self._memories.check(memory)
        about |= {"lr": rate_of_push(lr, self.lr, self.progress), "delay": self.version - entry.version}
        # Where it is applied all the same, the step itself tells.
        finite = self.on_nonfinite == "apply" or self._finite(vector)
        if not finite and self.on_nonfinite == "raise":
            raise NonFiniteError(
                f"the gradient of worker {entry.worker} on batch {entry.batch} has NaN or Inf; lower the learning "
                f"rate, or choose on_nonfinite='reject' or 'apply'"
            )
        if not finite:
            self._desk.ledger.fail(entry, void=False)
            self._settle()
            return self._receipt("rejected", about | {"finite": False}, "NaN or Inf in the gradient"), None
        if not self.method.admission.admit(about["delay"]):
            self._desk.ledger.give_back(entry, void=False)
            self._settle()
            about["finite"] = self._finite(vector)
            return self._receipt("dropped", about, f"a delay of {about['delay']} is not admitted"), None
        if buffers:
            self.buffers.accept(entry.worker, buffers)
        self._memories.accept(entry, memory)
        return self._commit(entry, vector, about, reply=reply)

    def _taken(
        self, gradient: Tensor | nn.Module, buffers: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, Mapping[str, Tensor] | None]:
        return intake.taken(gradient, buffers, self.layout, self._memory)

    def _finite(self, gradient: Tensor) -> bool:
        return intake.is_finite(gradient)

    def _commit(
        self, entry: Entry, vector: Tensor, about: dict[str, Any], *, reply: bool
    ) -> tuple[Receipt, Ticket | None]:
        """Everything is checked: decide, then move the parameters, then answer."""
        count, update = self._desk.accept(entry)
        cancelled = self._desk.cancel_stale(self.version + 1) if update else ()
        answered = update and reply and self._desk.may_start(entry.worker)
        told, point = self._stepper.push(
            entry.worker,
            vector,
            delay=about["delay"],
            lr=about["lr"],
            workers=len(self._desk.workers),
            count=count,
            update=update,
            reply=answered,
        )
        # Finite numbers may have a sum that is not.
        told["finite"] = told["finite"] or self._finite(vector)
        answer = self._ticket(self._desk.issue(entry.worker, self.version), point) if point is not None else None
        return self._receipt("applied" if update else "held", about | told | {"cancelled": cancelled}), answer

    def _settle(self) -> tuple[int, ...]:
        """A batch or worker went without a push: what is held may be all that comes, and others may start."""
        count, update = self._desk.gathered()
        if update:
            self._stepper.flush(workers=len(self._desk.workers), count=count)
        return self._desk.released()

    def _receipt(self, outcome: Outcome, about: Mapping[str, Any], reason: str = "") -> Receipt:
        return Receipt(outcome, version=self.version, released=self._desk.released(), reason=reason, **about)
