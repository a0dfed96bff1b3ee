"""Hold your own method against the contracts that every published method here keeps.

    from unstale.testing import check
    check(my_method)

or, one test per contract:

    @pytest.mark.parametrize("contract", contracts(my_method), ids=str)
    def test_my_method(contract):
        contract(Subject(my_method))
"""

from unstale.testing import exact, laws, lives, order, terms, theory, theory_of_adam  # noqa: F401  (they put their contracts into the list)
from unstale.testing.contract import Contract, broken, check, contract, contracts, violations
from unstale.testing.drive import Arrival, Drive, Subject, round_robin, smooth, start, uneven

__all__ = [
    "Arrival",
    "Contract",
    "Drive",
    "Subject",
    "broken",
    "check",
    "contract",
    "contracts",
    "round_robin",
    "smooth",
    "start",
    "uneven",
    "violations",
]
