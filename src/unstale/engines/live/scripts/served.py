"""A server that waits for scripts, to be looked at and spoken to while it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from unstale.callbacks import Callback
from unstale.checkpoint import Checkpoints
from unstale.engines.live.launch import Background
from unstale.engines.live.members import Patience
from unstale.engines.live.ray import ray_callers
from unstale.engines.live.scripts.address import chosen, scheme
from unstale.engines.live.scripts.answering import Callers
from unstale.engines.live.scripts.callers import SocketCallers
from unstale.engines.live.scripts.serving import Serving
from unstale.engines.live.scripts.terms import Terms
from unstale.errors import ArgumentError, RunError
from unstale.events import event_log
from unstale.methods import Method, get
from unstale.server import Server

__all__ = ["Served", "serve"]


class Served(Background):
    """A server in a thread of its own; a context manager, which stops it.

    ``address``: where scripts connect.
    """

    _conductor: Serving

    def __init__(self, serving: Serving) -> None:
        self.address = serving.fleet.address
        super().__init__(serving)

    @property
    def params(self) -> Tensor:
        """(d,) a copy of θ. Raises `RunError` before the first script has said what its model is."""
        params: Tensor = self._of(lambda server: server.params)
        return params

    def load_into(self, module: nn.Module) -> None:
        """Copy θ, and the buffers that an evaluation uses, into ``module``. Raises as `params`."""
        self._of(lambda server: server.load_into(module))

    def _of(self, what: Callable[[Server], Any]) -> Any:
        def answer() -> Any:
            trained = self._conductor.trained
            if trained is None:
                raise RunError("there are no parameters yet; they come with the first script, or with serve(model=…)")
            return what(trained.server)

        return answer() if self.done else self._ask(answer)

    def __enter__(self) -> Served:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.done:
            self.stop()
        self.wait()


DOORS: dict[str, Callable[[str | Path | None], Callers]] = {
    "": lambda address: SocketCallers(chosen(address)),
    "ray": ray_callers,
}
"""By the scheme of an address; none: a socket on this machine."""


def serve(
    method: str | Method = "dana_ga",
    *,
    address: str | Path | None = None,
    model: nn.Module | None = None,
    patience: Patience | None = None,
    record: str | Path | None = None,
    checkpoints: Checkpoints | None = None,
    resume: str | Path | None = None,
    callbacks: Sequence[Callback] = (),
    **terms: Any,
) -> Served:
    """Wait for scripts that `connect`, and train with what they push; answers at once.

    address: a path for a socket, in a folder that only you can write to (default: ``UNSTALE_ADDRESS``, or one under
        ``XDG_RUNTIME_DIR``): scripts are on this machine, and there is no network port. Or ``ray://NAME``: they are
        anywhere on a running Ray cluster, as `connect` finds it.
    model: what is trained; it is not changed. Default: what the first script has, with its parameters.
    patience: what is done about silent workers; ``starting`` is also how long one may be between a push and a pull
        before it is not counted on any more. record: a folder for the log of events (default: in that
        of the checkpoints, if there are to be some).
    checkpoints: where to write some, see `Checkpoints`. resume: the folder of those of a server that was stopped or
        died, to go on from the newest, with the same terms and ``record``; it waits for ``workers`` scripts again.
    callbacks: see `Callback`; there is no plan for ``on_start``, and there are no evaluations.

    And, by keyword (`Terms`):
    workers: so many must have come before the first batch is handed out (default 1); others may come at any time.
    lr: η, a `Recipe`, or a function of progress (epochs). weight_decay, groups: as for a `Server`.
    epochs: when it ends (default: when it is stopped); batches_per_epoch: how many make one of them.
    batch_norm: "shared", "per-worker" or "recalibrate". on_nonfinite: "reject", "apply" or "raise". executor.

    Raises `ArgumentError` for an argument that breaks a rule, `RunError` where it cannot listen, `StoreError` for a
    folder that is not fit to write to or to go on from.
    """
    unknown = sorted(set(terms) - set(Terms.__dataclass_fields__))
    if unknown:
        known = ", ".join(name for name in Terms.__dataclass_fields__ if name != "method")
        raise ArgumentError(
            f"serve() has no argument {unknown[0]!r}; it takes address, model, patience, record, checkpoints, "
            f"resume, callbacks, {known}"
        )
    arranged = Terms(method=get(method), **terms)
    folder = None if resume is None else Path(resume)
    log = event_log(record, None if checkpoints is None else Path(checkpoints.folder), folder)
    door = partial(DOORS.get(scheme(address), DOORS[""]), address)
    return Served(Serving(arranged, door, patience or Patience(), log, tuple(callbacks), model, checkpoints, folder))
