"""The contracts can fail: each wrong method is caught by at least one of them."""

from __future__ import annotations

import pytest

from tests.contracts.mutants import MUTANTS
from unstale.testing import broken, check


def test_there_are_many() -> None:
    assert len(MUTANTS) >= 20


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_caught(name: str) -> None:
    """By what it does, not by a crash on the way."""
    noticed = (how for _, how in broken(MUTANTS[name]) if how.startswith("AssertionError"))
    assert next(noticed, None), f"no contract notices: {name}"


def test_check_names_what_is_broken() -> None:
    with pytest.raises(AssertionError, match="delay_counts_updates"):
        check(MUTANTS["delay off by one"])
