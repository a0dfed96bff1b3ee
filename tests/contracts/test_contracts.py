"""Every published method, and every variant of it, keeps every contract that applies to it."""

from __future__ import annotations

import pytest

from unstale.methods import Method, catalogue, get, names
from unstale.testing import Contract, Subject, contracts

METHODS: dict[str, Method] = {}
for entry in catalogue().values():
    METHODS[entry.name] = get(entry.name)
    for variant in entry.variants:
        METHODS[f"{entry.name}({', '.join(f'{k}={v}' for k, v in variant.items())})"] = get(entry.name, **variant)

CASES = [pytest.param(law, m, id=f"{label}-{law}") for label, m in METHODS.items() for law in contracts(m)]


@pytest.mark.parametrize(("law", "method"), CASES)
def test_method_keeps_contract(law: Contract, method: Method) -> None:
    law(Subject(method))


def test_the_catalogue_is_complete() -> None:
    assert set(names()) == {
        *("asgd", "heavy_ball_asgd", "nag_asgd", "sa", "ga", "dana", "dana_sa", "dana_ga", "multi_asgd", "dana_slim"),
        *("dc_asgd", "dana_dc", "delay_adaptive", "sync", "backup", "fedbuff"),
        *("adam", "sa_adam", "ga_adam", "sync_adam"),
    }


def test_no_contract_is_idle() -> None:
    used = {law.name for method in METHODS.values() for law in contracts(method)}
    assert used == {law.name for law in contracts()}
