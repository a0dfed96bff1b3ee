"""The contracts can fail: each wrong method is caught by at least one of them."""

from __future__ import annotations

import pytest

from tests.contracts.mutants import MUTANTS
from unstale.testing import check, violations


def test_there_are_many() -> None:
    assert len(MUTANTS) >= 20


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    broken = violations(MUTANTS[name])
    assert broken, f"no contract notices: {name}"
    # Caught by what it does, not by a crash on the way.
    assert any(how.startswith("AssertionError") for how in broken.values()), broken


def test_check_names_what_is_broken() -> None:
    with pytest.raises(AssertionError, match="delay_counts_updates"):
        check(MUTANTS["delay off by one"])
