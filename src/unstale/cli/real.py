"""The options of real workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstale.errors import ArgumentError

if TYPE_CHECKING:
    from unstale.cli.options import Settings

__all__ = ["Engine", "MaxRestarts", "Threads", "live_options"]

_PANEL = "Real workers"
_SIMULATED = ("clock", "clock_option", "heterogeneity", "strategy")

Engine = Annotated[
    str, typer.Option(help="simulate; or processes: real workers, on this machine.", rich_help_panel=_PANEL)
]
MaxRestarts = Annotated[
    int | None,
    typer.Option(
        help="How often each worker is started again; 3 if not given.", rich_help_panel=_PANEL, show_default=False
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Of torch, in each worker; 1 if not given.", rich_help_panel=_PANEL, show_default=False),
]


def live_options(engine: str, settings: Settings, max_restarts: int | None, threads: int | None) -> dict[str, Any]:
    """As keywords of `unstale.train`. Raises `ArgumentError` for what belongs to the other kind of engine."""
    from unstale import checks
    from unstale.engines import ENGINES
    from unstale.engines.live import Live, Patience

    checks.choice("--engine", engine, ENGINES)
    real = {"max_restarts": max_restarts, "threads": threads}
    simulated = {name: getattr(settings, name) for name in _SIMULATED}
    kind, strangers = ("real workers", real) if engine == "simulate" else ("simulated ones", simulated)
    for name in [name for name, value in strangers.items() if value is not None]:
        raise ArgumentError(f"--{name.replace('_', '-')} is for {kind}, but --engine is {engine!r}; leave it out")
    options: dict[str, Any] = {} if threads is None else {"threads": threads}
    options |= {} if max_restarts is None else {"patience": Patience(max_restarts=max_restarts)}
    assert Live(**options)  # which looks at them
    return options
