"""What a contract is, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from unstale.methods import Method
from unstale.testing.drive import Subject

__all__ = ["Contract", "broken", "check", "contract", "contracts", "violations"]


@dataclass(frozen=True)
class Contract:
    """A law that methods keep. Call it with a `Subject`; it raises AssertionError if the law is broken."""

    name: str
    law: str
    applies: Callable[[Method], bool]
    test: Callable[[Subject], None]

    def __call__(self, subject: Subject) -> None:
        """Check the law."""
        self.test(subject)

    def __str__(self) -> str:
        return self.name


_ALL: dict[str, Contract] = {}


def contract(
    applies: Callable[[Method], bool] = lambda method: True,
) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Put a function into the list; its docstring is the law, ``applies`` says for which methods it holds."""

    def register(test: Callable[[Subject], None]) -> Callable[[Subject], None]:
        name = test.__name__
        _ALL[name] = Contract(name, (test.__doc__ or "").splitlines()[0], applies, test)
        return test

    return register


def contracts(method: Method | None = None) -> list[Contract]:
    """All contracts, or those that apply to ``method``."""
    return [c for c in _ALL.values() if method is None or c.applies(method)]


def broken(subject: Subject) -> Iterator[tuple[str, str]]:
    """The contracts that ``subject`` breaks, and how, one by one. Any exception on the way is a break, too."""
    for law in contracts(subject.method):
        try:
            law(subject)
        except Exception as error:
            yield law.name, f"{type(error).__name__}: {error}"


def violations(subject: Subject) -> dict[str, str]:
    """All contracts that ``subject`` breaks, and how, as `broken` tells."""
    return dict(broken(subject))


def check(method: Method | Subject) -> None:
    """Hold a method of yours against every contract that applies. Raises AssertionError naming those it breaks."""
    subject = method if isinstance(method, Subject) else Subject(method)
    found = violations(subject)
    if found:
        raise AssertionError("\n".join(f"{name}: {how}" for name, how in found.items()))
