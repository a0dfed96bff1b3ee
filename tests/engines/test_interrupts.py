"""Ctrl-C comes where it may, and is never lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import pytest

from unstale.engines.interrupts import interrupts_held


def strike() -> None:
    signal.raise_signal(signal.SIGINT)


def struck(work: Callable[[list[str]], None]) -> list[str]:
    """What ``work`` had reached when Ctrl-C came."""
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work(reached)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return reached


def test_it_comes_where_it_is_let_through() -> None:
    def work(reached: list[str]) -> None:
        with interrupts_held() as let_through:
            let_through()
            strike()
            reached.append("after it struck")
            let_through()
            reached.append("after it came")

    assert struck(work) == ["after it struck"]


def test_or_in_the_end() -> None:
    @interrupts_held()
    def work(reached: list[str]) -> None:
        strike()
        reached.append("the end")

    assert struck(work) == ["the end"]


def test_a_second_one_comes_at_once() -> None:
    @interrupts_held()
    def work(reached: list[str]) -> None:
        strike()
        reached.append("after the first")
        strike()
        reached.append("after the second")

    assert struck(work) == ["after the first"]


def test_inside_another_it_waits_for_that_one() -> None:
    @interrupts_held()
    def work(reached: list[str]) -> None:
        with interrupts_held():
            strike()
        reached.append("after the inner one")
        with interrupts_held() as let_through:
            let_through()
        reached.append("never")

    assert struck(work) == ["after the inner one"]


def test_an_error_is_not_hidden_by_it() -> None:
    @interrupts_held()
    def work() -> None:
        strike()
        raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        work()


def test_the_handlers_of_others_are_left_alone() -> None:
    struck: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: struck.append(number))
    try:
        with interrupts_held() as let_through:
            strike()
            let_through()
        assert struck == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_installs_nothing() -> None:
    installed = []

    def work() -> None:
        with interrupts_held():
            installed.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert installed == [signal.default_int_handler]
