"""The options of real workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstale.errors import ArgumentError

if TYPE_CHECKING:
    from unstale.cli.options import Settings

__all__ = ["Address", "Engine", "MaxRestarts", "Servers", "Threads", "live_options"]

_PANEL = "Real workers"
_SIMULATED = ("clock", "clock_option", "heterogeneity", "strategy")


def _option(words: str) -> Any:
    return typer.Option(help=words, rich_help_panel=_PANEL, show_default=False)


Engine = Annotated[
    str | None, _option("processes: on this machine; ray: on a Ray cluster; simulate if not given: no real workers.")
]
MaxRestarts = Annotated[int | None, _option("How often each worker is started again; 3 if not given.")]
Threads = Annotated[int | None, _option("Of torch, in each worker; 1 if not given.")]
Address = Annotated[str | None, _option("Of a Ray cluster; auto finds it; a local one if not given.")]
Servers = Annotated[int | None, _option("Actors that the parameters are split over, with ray; 1 if not given.")]


def live_options(engine: str | None, settings: Settings, live: Mapping[str, Any]) -> None:
    """Raises `ArgumentError` for what belongs to the other kind of engine, and for values that cannot be."""
    from unstale import checks
    from unstale.engines import ENGINES
    from unstale.experiments.request import live_of

    engine = engine or "simulate"
    checks.choice("--engine", engine, ENGINES)
    simulated = {name: getattr(settings, name) for name in _SIMULATED}
    kind, strangers = ("real workers", live) if engine == "simulate" else ("simulated workers", simulated)
    for name in [name for name, value in strangers.items() if value is not None]:
        raise ArgumentError(f"--{name.replace('_', '-')} is for {kind}, but --engine is {engine!r}; leave it out")
    assert live_of(live)  # which looks at them
