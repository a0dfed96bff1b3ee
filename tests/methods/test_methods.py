"""The algebra: parts that fit, parts that do not, names and what is said of them."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable

import pytest

from unstale import methods
from unstale.describe import describe
from unstale.errors import ArgumentError, MethodError, UnknownNameError
from unstale.methods import Method, catalogue, get, names


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Method(predict=methods.AlongAllMomenta()),
            "needs 'momentum', which no .* use update=MomentumPerW",
        ),
        (lambda: Method(predict=methods.AlongOwnMomentum()), "needs 'momentum'"),
        (lambda: Method(update=methods.Nesterov(), predict=methods.AlongAllMomenta()), "sum of 'v', which is no per-w"),
        (lambda: Method(penalty="gap"), "penalty must be a part with divisor"),  # type: ignore[arg-type]
        (lambda: Method(penalty=methods.Gap), "penalty must be a part"),  # type: ignore[arg-type]
        (lambda: Method(update=methods.Gap()), "update must be a part with step"),  # type: ignore[arg-type]
        (lambda: methods.dana().replace(gather=methods.Mean(4)), "keeps .* per worker, but gather=Mean"),
        (lambda: methods.delay_adaptive().replace(gather=methods.Mean(4)), "follows the delay of one gradient"),
        (lambda: methods.nag_asgd(momentum=1.0), "momentum must be .* below 1, got 1.0"),
        (lambda: methods.nag_asgd(momentum=float("nan")), "momentum must be a finite number"),
        (lambda: methods.dana_ga(reference="here"), "reference must be 'server' or 'prediction'"),  # type: ignore[arg-type]
        (lambda: methods.ga(per="row"), "per must be"),  # type: ignore[arg-type]
        (lambda: methods.dc_asgd("b"), "variant must be 'a'"),  # type: ignore[arg-type]
        (lambda: methods.fedbuff(0), "count must be a whole number of at least 1"),
        (lambda: methods.backup(spare=-1), "spare must be"),
        (lambda: methods.MaxDelay(-1), "limit must be"),
        (lambda: methods.adam(beta1=1.0), "beta1 must be .* below 1, got 1.0"),
        (lambda: methods.adam(beta2=-0.1), "beta2 must be .* at least 0"),
        (lambda: methods.ga_adam(eps=0.0), "eps must be .* at least 1e-30"),
        (lambda: methods.adam(decoupled="yes"), "decoupled must be True .* or False"),  # type: ignore[arg-type]
        (lambda: methods.ga_adam(per="row"), "per must be"),  # type: ignore[arg-type]
        (lambda: methods.AppliedStep(beta=1.0), "beta must be"),
        (lambda: methods.Gap(scale="own"), "scale must be a part with observe and size"),  # type: ignore[arg-type]
        (lambda: methods.NormGap(scale=methods.AverageStep), "scale must be a part"),  # type: ignore[arg-type]
        (lambda: Method(update=methods.Adam(), predict=methods.AlongAllMomenta()), "needs 'momentum'"),
    ],
)
def test_nonsense_is_refused_when_it_is_built(build: Callable[[], object], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        build()


def test_gaps_are_measured_in_the_updates_own_unit_unless_the_penalty_names_one() -> None:
    assert methods.ga().scale == methods.AverageStep()
    for method in (methods.adam(beta2=0.99, eps=1e-6), methods.ga_adam(beta2=0.99, eps=1e-6, decoupled=True)):
        assert method.scale == methods.AppliedStep(0.99, 1e-6)
    named = methods.Gap(scale=methods.AverageStep(rho=0.99))
    assert methods.ga_adam().replace(penalty=named).scale == methods.AverageStep(0.99)
    assert methods.ga().replace(penalty=methods.NormGap(scale=methods.AppliedStep())).scale == methods.AppliedStep()


def test_states_must_not_collide() -> None:
    @dataclasses.dataclass(frozen=True)
    class Clashing(methods.NoPenalty):
        state = {"v": methods.per_worker()}

    with pytest.raises(MethodError, match="both keep a state called 'v'"):
        Method(update=methods.Nesterov(), penalty=Clashing())

    @dataclasses.dataclass(frozen=True)
    class Reserved(methods.NoPenalty):
        state = {"delay": methods.vector()}

    with pytest.raises(MethodError, match="'delay', which every block already has"):
        Method(penalty=Reserved())


def test_equations_that_read_what_nobody_keeps_say_so() -> None:
    with pytest.raises(AttributeError, match="reads 'momenta', but no part declares it"):
        _ = methods.Block({}).momenta


def test_names_and_arguments() -> None:
    assert names() == list(catalogue())
    assert get("dana_ga", momentum=0.5).update == methods.MomentumPerWorker(0.5)
    assert get("ga(per=layer, momentum=0.8)") == methods.ga(0.8, per="layer")
    assert get(methods.sync()) == methods.sync()
    with pytest.raises(UnknownNameError, match="did you mean"):
        get("dana_gaa")
    with pytest.raises(UnknownNameError, match="known: adam, asgd"):
        get("zzz")
    with pytest.raises(ArgumentError, match="takes momentum, got 'momentun'"):
        get("nag_asgd", momentun=0.5)
    with pytest.raises(ArgumentError, match="name\\(key=value"):
        get("ga(layer)")
    with pytest.raises(ArgumentError, match="apply to a method's name"):
        get(methods.ga(), momentum=0.5)


@pytest.mark.parametrize("name", names())
def test_entries_are_complete(name: str) -> None:
    entry = catalogue()[name]
    assert entry.summary.endswith(".")
    assert entry.equation
    assert entry.source
    assert get(name).name == name
    for variant in entry.variants:
        assert get(name, **variant) != get(name), "a variant that changes nothing"


@pytest.mark.parametrize("name", names())
def test_methods_are_data(name: str) -> None:
    """Frozen, hashable, comparable, picklable, and plain JSON when described."""
    method = get(name)
    assert hash(method) == hash(get(name))
    assert pickle.loads(pickle.dumps(method)) == method
    assert json.loads(json.dumps(describe(method))) == describe(method)
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.update = methods.Sgd()  # type: ignore[misc]


def test_different_methods_describe_differently() -> None:
    described = {json.dumps(describe(get(name))) for name in names()}
    assert len(described) == len(names())
