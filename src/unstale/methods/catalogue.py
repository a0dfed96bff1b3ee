"""Every published method: its parts, its numbers, its equation and where it comes from. No logic."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from unstale.errors import ArgumentError, UnknownNameError
from unstale.methods.adam import adam_update
from unstale.methods.admission import MaxDelay
from unstale.methods.base import Method
from unstale.methods.correction import DelayCompensation, compensation
from unstale.methods.gate import Barrier
from unstale.methods.gather import Mean
from unstale.methods.penalty import Delay, Gap, RootDelay, gap
from unstale.methods.predict import AlongAllMomenta, AlongOwnMomentum
from unstale.methods.step_size import DelayAdaptive
from unstale.methods.update import HeavyBall, MomentumPerWorker, Nesterov, NesterovPerWorker

__all__ = ["Entry", "catalogue", "get", "names", "parse"]

BARKAI = "Barkai, Hakimi, Schuster: Gap-Aware Mitigation of Gradient Staleness. ICLR 2020, arXiv 1909.10802"
HAKIMI = (
    "Hakimi, Barkai, Gabel, Schuster: Taming Momentum in a Distributed Asynchronous Environment. 2019, arXiv 1907.11612"
)
ZHANG = "Zhang, Gupta, Lian, Liu: Staleness-aware Async-SGD for Distributed Deep Learning. 2015, arXiv 1511.05950"
ZHENG = "Zheng et al.: Asynchronous Stochastic Gradient Descent with Delay Compensation. ICML 2017, arXiv 1609.08326"
DEAN = "Dean et al.: Large Scale Distributed Deep Networks. NIPS 2012"
CHEN = "Chen, Pan, Monga, Bengio, Jozefowicz: Revisiting Distributed Synchronous SGD. 2016, arXiv 1604.00981"
NGUYEN = "Nguyen et al.: Federated Learning with Buffered Asynchronous Aggregation. AISTATS 2022, arXiv 2106.06639"
KINGMA = "Kingma, Ba: Adam: A Method for Stochastic Optimization. ICLR 2015, arXiv 1412.6980"
LOSHCHILOV = "Loshchilov, Hutter: Decoupled Weight Decay Regularization. ICLR 2019, arXiv 1711.05101"
KOLOSKOVA = (
    "Koloskova, Stich, Jaggi: Sharper Convergence Guarantees for Asynchronous SGD. NeurIPS 2022; "
    "Mishchenko, Bach, Even, Woodworth: Asynchronous SGD Beats Minibatch SGD Under Arbitrary Delays. NeurIPS 2022"
)


@dataclass(frozen=True)
class Entry:
    """A method's line in the catalogue."""

    name: str
    build: Callable[..., Method]
    summary: str
    equation: str
    source: str
    variants: tuple[Mapping[str, object], ...] = ()

    @property
    def defaults(self) -> dict[str, object]:
        """The constructor's arguments and what they are when not given."""
        return {name: p.default for name, p in inspect.signature(self.build).parameters.items()}


_ENTRIES: dict[str, Entry] = {}
Build = TypeVar("Build", bound=Callable[..., Method])


def _published(equation: str, source: str, variants: tuple[Mapping[str, object], ...] = ()) -> Callable[[Build], Build]:
    """Put a constructor into the catalogue; its docstring's first line is the summary."""

    def register(build: Build) -> Build:
        name = build.__name__
        _ENTRIES[name] = Entry(name, build, (build.__doc__ or "").splitlines()[0], equation, source, variants)
        return build

    return register


@_published("θ ← θ − ηg", DEAN)
def asgd() -> Method:
    """Plain asynchronous SGD: every stale gradient is used as it comes."""
    return Method(name="asgd")


@_published("v ← γv + g;  θ ← θ − ηv", "Polyak 1964, run by the server; " + DEAN)
def heavy_ball_asgd(momentum: float = 0.9) -> Method:
    """Asynchronous SGD with one heavy-ball momentum shared by all workers."""
    return Method(update=HeavyBall(momentum), name="heavy_ball_asgd")


@_published("v ← γv + g;  θ ← θ − η(g + γv)", BARKAI)
def nag_asgd(momentum: float = 0.9) -> Method:
    """Asynchronous SGD with one Nesterov momentum; with one worker, the baseline."""
    return Method(update=Nesterov(momentum), name="nag_asgd")


@_published("g ← g/max(1, τ), then nag_asgd", ZHANG, variants=({"plus_one": True},))
def sa(momentum: float = 0.9, plus_one: bool = False) -> Method:
    """Staleness-aware: the gradient is divided by its delay."""
    return Method(update=Nesterov(momentum), penalty=Delay(plus_one), name="sa")


@_published(
    "g ← g/(1 + |θ − w_i|/C), C = η_max(√(R/(1−ρⁿ)) + ε), then nag_asgd;  per layer or model: P = 1 + ‖θ − w_i‖/‖C‖",
    BARKAI + " (the norms are ours in form)",
    variants=({"per": "layer"}, {"per": "model"}),
)
def ga(momentum: float = 0.9, per: Literal["element", "layer", "model"] = "element") -> Method:
    """Gap-aware: each element is divided by how many average steps it is late."""
    return Method(update=Nesterov(momentum), penalty=gap(per), name="ga")


@_published("v_i ← γv_i + g;  θ ← θ − ηv_i;  w_i = θ − ηγΣv_j", HAKIMI)
def dana(momentum: float = 0.9) -> Method:
    """One momentum per worker, and gradients taken where all of them lead."""
    return Method(update=MomentumPerWorker(momentum), predict=AlongAllMomenta(), name="dana")


@_published("g ← g/max(1, τ), then dana", f"{BARKAI}; {ZHANG}")
def dana_sa(momentum: float = 0.9, plus_one: bool = False) -> Method:
    """DANA with staleness-aware gradients."""
    update, predict = MomentumPerWorker(momentum), AlongAllMomenta()
    return Method(update=update, predict=predict, penalty=Delay(plus_one), name="dana_sa")


@_published(
    "g ← g/(1 + |θ − w_i|/C), then dana; R follows the v_i of each push",
    BARKAI,
    variants=({"reference": "prediction"},),
)
def dana_ga(momentum: float = 0.9, reference: Literal["server", "prediction"] = "server") -> Method:
    """DANA with gap-aware gradients."""
    update, predict = MomentumPerWorker(momentum), AlongAllMomenta()
    return Method(update=update, predict=predict, penalty=Gap(reference), name="dana_ga")


@_published("v_i ← γv_i + g;  θ ← θ − ηv_i;  w_i = θ − ηγv_i", HAKIMI)
def multi_asgd(momentum: float = 0.9) -> Method:
    """One momentum per worker, and gradients taken where the worker's own leads."""
    return Method(update=MomentumPerWorker(momentum), predict=AlongOwnMomentum(), name="multi_asgd")


@_published("v_i ← γv_i + g;  θ ← θ − η(γv_i + g)", HAKIMI)
def dana_slim(momentum: float = 0.9) -> Method:
    """DANA with the prediction kept inside the parameters: one Nesterov momentum per worker."""
    return Method(update=NesterovPerWorker(momentum), name="dana_slim")


@_published(
    "g ← g + c·g²(θ − w_i);  variant a: c/√(MS_i + 1e-7), MS_i ← m·MS_i + (1−m)g²;  θ ← θ − ηg",
    ZHENG,
    variants=({"variant": "c"},),
)
def dc_asgd(variant: Literal["a", "c"] = "a", c: float | None = None, m: float | None = None) -> Method:
    """Delay compensation: a Taylor term for the drift since the gradient's point was sent."""
    return Method(correction=compensation(variant, c, m), name="dc_asgd")


@_published("g ← g + c·g²(θ − w_i), then dana", "DANA-DC, in the code of " + HAKIMI)
def dana_dc(momentum: float = 0.9, c: float = 2.0) -> Method:
    """DANA with delay compensation."""
    update, predict = MomentumPerWorker(momentum), AlongAllMomenta()
    return Method(update=update, predict=predict, correction=DelayCompensation(c), name="dana_dc")


@_published("θ ← θ − η·min(1, N/τ)·g", KOLOSKOVA)
def delay_adaptive() -> Method:
    """Asynchronous SGD whose steps shrink where the delay exceeds the number of workers."""
    return Method(step_size=DelayAdaptive(), name="delay_adaptive")


@_published("g ← mean of one gradient per worker, all at the same θ, then nag_asgd", "Synchronous SGD; " + CHEN)
def sync(momentum: float = 0.9) -> Method:
    """Synchronous training: every round waits for the slowest worker."""
    gathered = Mean("workers")
    return Method(gate=Barrier(), admission=MaxDelay(0), gather=gathered, update=Nesterov(momentum), name="sync")


@_published("sync with the first N − spare gradients of a round; later ones are dropped", CHEN)
def backup(momentum: float = 0.9, spare: int = 1) -> Method:
    """Synchronous training with backup workers: a round ends without its slowest."""
    gathered = Mean("workers", spare)
    return Method(gate=Barrier(), admission=MaxDelay(0), gather=gathered, update=Nesterov(momentum), name="backup")


@_published("g ← mean of the next K gradients, each over √(1 + τ);  θ ← θ − ηg", NGUYEN)
def fedbuff(buffer: int = 10) -> Method:
    """Buffered asynchronous aggregation: K gradients make one update (one gradient per push: no local steps)."""
    return Method(gather=Mean(buffer), penalty=RootDelay(), name="fedbuff")


@_published(
    "m ← β₁m + (1−β₁)g;  s ← β₂s + (1−β₂)g²;  θ ← θ − η·m̂/(√ŝ + ε);  decoupled: θ ← θ − η(m̂/(√ŝ + ε) + λθ)",
    f"{KINGMA}; {LOSHCHILOV}; run by the server",
    variants=({"decoupled": True},),
)
def adam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, decoupled: bool = False) -> Method:
    """Asynchronous Adam, or AdamW, with one pair of moments shared by all workers."""
    return Method(update=adam_update(beta1, beta2, eps, decoupled), name="adam")


@_published("g ← g/max(1, τ), then adam", f"{ZHANG}; {KINGMA}", variants=({"decoupled": True},))
def sa_adam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, decoupled: bool = False) -> Method:
    """Adam with staleness-aware gradients: nearly without effect where delays are nearly equal."""
    return Method(update=adam_update(beta1, beta2, eps, decoupled), penalty=Delay(), name="sa_adam")


@_published(
    "g ← g/(1 + |θ − w_i|/C), C = √(Q/(1−β₂ⁿ)) + ε, then adam;  Q ← β₂Q + (1−β₂)a², a the change of θ",
    f"{BARKAI}; {KINGMA}. C as read in third-party code, 1−β₂ⁿ ours; whether the paper did exactly this is unknown",
    variants=({"decoupled": True}, {"per": "layer"}),
)
def ga_adam(
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    decoupled: bool = False,
    per: Literal["element", "layer", "model"] = "element",
) -> Method:
    """Adam with gap-aware gradients: each element is divided by how many applied steps it is late."""
    return Method(update=adam_update(beta1, beta2, eps, decoupled), penalty=gap(per), name="ga_adam")


@_published(
    "g ← mean of one gradient per worker, all at the same θ, then adam",
    f"Synchronous SGD; {CHEN}; {KINGMA}",
    variants=({"decoupled": True},),
)
def sync_adam(beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, decoupled: bool = False) -> Method:
    """Synchronous training with Adam: what asynchronous Adam is measured against."""
    update, gathered = adam_update(beta1, beta2, eps, decoupled), Mean("workers")
    return Method(gate=Barrier(), admission=MaxDelay(0), gather=gathered, update=update, name="sync_adam")


def names() -> list[str]:
    """Every published method, in the order of the catalogue."""
    return list(_ENTRIES)


def catalogue() -> dict[str, Entry]:
    """Every published method's line, by name."""
    return dict(_ENTRIES)


def get(method: str | Method, **arguments: object) -> Method:
    """A method by name, ``get("dana_ga", momentum=0.95)`` or ``get("ga(per=layer)")``; a `Method` passes through.

    Raises `UnknownNameError` for an unknown name, `ArgumentError` for an argument the constructor does not take.
    """
    if isinstance(method, Method):
        if arguments:
            raise ArgumentError(
                f"{sorted(arguments)} apply to a method's name, got a Method; build it with them instead"
            )
        return method
    name, written = parse(method)
    if name not in _ENTRIES:
        raise UnknownNameError("method", name, _ENTRIES)
    entry = _ENTRIES[name]
    for key in sorted(set(written) & set(arguments)):
        raise ArgumentError(f"{key} must be given once, got it in {method!r} and as an argument")
    for key in sorted({*arguments, *written} - set(entry.defaults)):
        raise ArgumentError(f"method {name!r} takes {', '.join(entry.defaults) or 'no arguments'}, got {key!r}")
    return entry.build(**written, **arguments)


def parse(spec: str) -> tuple[str, dict[str, object]]:
    """Split ``"ga(per=layer, momentum=0.8)"`` into its name and arguments."""
    match = re.fullmatch(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", str(spec))
    if match is None:
        raise UnknownNameError("method", spec, _ENTRIES)
    arguments: dict[str, object] = {}
    for pair in filter(None, (match[2] or "").split(",")):
        key, sign, text = (word.strip() for word in pair.partition("="))
        if not sign:
            raise ArgumentError(f"a method's arguments are written name(key=value, …), got {spec!r}")
        try:
            arguments[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            arguments[key] = text
    return match[1], arguments
