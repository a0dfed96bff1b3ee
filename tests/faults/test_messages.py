"""Messages that come twice, late, out of nowhere, or from those who are no more. No processes: all is exact."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch

import unstale
from tests.engines.problems import equal
from tests.faults.inject import BATCHES, At, about, conducted_by, ended, plan
from tests.faults.inside import Inside, inside, once, with_gradient
from unstale.engines.live.fleet import Arrived, Gone, Message
from unstale.engines.live.launch import LiveRun
from unstale.engines.replay import repeat


def outcomes(run: unstale.Run) -> list[str]:
    return run.history["outcome"].to_list()


@pytest.mark.parametrize(("method", "push"), [("dana_ga", 5), ("sync", 4), ("sync", 5)])
def test_a_push_that_comes_twice_counts_once(method: str, push: int) -> None:
    at = At()
    run = ended(conducted_by(inside(once(lambda m: [m, m], push)), plan(method=method), at))
    assert outcomes(run).count("spent") == 1
    assert not at.incidents
    assert run.events is not None
    assert repeat(plan(method=method), run.events).history["outcome"].to_list() == outcomes(run)


def test_a_push_of_a_gradient_of_the_wrong_shape_costs_the_worker_its_place_and_the_batch_nothing() -> None:
    at = At()
    wrong = once(lambda m: [with_gradient(m, torch.ones(3))], 5)
    run = ended(conducted_by(inside(wrong), plan(), at))
    assert "shape (15,)" in at.reasons
    assert not run.quarantined


def test_what_is_said_after_a_mistake_is_not_heard() -> None:
    at = At()
    wrong = once(lambda m: [with_gradient(m, torch.ones(3)), m, Gone(m.worker, "exit code 1")], 5)
    run = ended(conducted_by(inside(wrong), plan(), at))
    assert len(at.incidents) == 1
    assert sum(about(run, worker)["restarts"] for worker in range(2)) == 1


@pytest.mark.parametrize("number", [10**9, -1])
def test_a_number_that_was_never_handed_out_is_a_mistake(number: int) -> None:
    at = At()
    ended(conducted_by(inside(once(lambda m: [m._replace(number=number)], 5)), plan(), at))
    assert "nobody had asked for" in at.reasons


def test_nobody_answers_for_another() -> None:
    """Worker 1 answers with the number of the ticket that worker 0 is at."""
    at, done = At(), list[bool]()

    def heard(fleet: Inside, messages: list[Message]) -> list[Message]:
        both = {m.worker: m for m in messages if isinstance(m, Arrived)}
        if len(both) == 2 and not done:
            done.append(True)
            first, second = both[0], both[1]
            return [second._replace(number=first.number), first]
        return messages

    run = ended(conducted_by(inside(heard), plan(), at))
    assert done
    assert [worker for worker, _ in at.incidents] == [1]
    assert set(outcomes(run)) == {"applied"}


def test_a_death_at_the_barrier_is_heard_after_the_push_that_opens_it() -> None:
    """Both in one breath: the server releases a worker that is no more."""
    at, held = At(), list[Message]()

    def heard(fleet: Inside, messages: list[Message]) -> list[Message]:
        pushes = [m for m in messages if isinstance(m, Arrived)]
        if len(pushes) == 2 and not held:
            held.append(pushes[1])
            return [pushes[0]]  # which waits at the barrier now
        if len(held) == 1:
            waits = 1 - held[0].worker
            fleet.alive.discard(waits)
            held.append(Gone(waits, "killed"))
            return held
        return messages

    run = ended(conducted_by(inside(heard), plan(method="sync"), at))
    assert at.incidents == [(1 - held[0].worker, "killed")]
    assert not run.quarantined


def test_a_push_on_an_expired_ticket_is_late_and_its_batch_is_done_by_another() -> None:
    """One push is heard only when its ticket has expired and the batch is out again, or done.

    That it diverged is nobody's concern then; and a replay has the same history.
    """
    held, told = list[Message](), list[Message]()

    def heard(fleet: Inside, messages: list[Message]) -> list[Message]:
        if not held and messages and fleet.server.accepted >= 5:
            held.append(messages.pop())
        if not told and held and fleet.server._desk.ledger._void:
            (late,) = held
            assert isinstance(late, Arrived)
            told.append(late._replace(computed=replace(late.computed, loss=math.nan)))
            return [*messages, *told]
        return messages

    patience = unstale.Patience(floor=0.5, slowness=1.0, starting=60.0)
    at = At()
    careful = plan(stop_on_divergence=True)
    run = ended(conducted_by(inside(heard), careful, at, patience))
    assert outcomes(run).count("late") == 1
    assert not at.incidents
    assert run.events is not None
    assert equal(run, repeat(careful, run.events))


def test_an_evaluation_is_not_held_against_those_whose_pushes_wait_meanwhile() -> None:
    class Slow(At):
        def on_evaluation(self, row: object) -> None:
            time.sleep(1.0)

    patience = unstale.Patience(floor=0.7, slowness=1.0, starting=60.0)
    at = Slow()
    fleet = inside(lambda fleet, messages: messages)
    run = ended(conducted_by(fleet, plan(epochs=2), at, patience), BATCHES // 3 * 2)
    assert not at.incidents
    assert run.events is not None
    assert "expire" not in set(run.events["kind"])


def test_a_worker_that_became_slow_is_given_its_time() -> None:
    """A push comes when the patience with it is over; those after it take as long, and are late no more."""
    held: list[tuple[float, Message]] = []
    began, slow = list[float](), list[float]()

    def heard(fleet: Inside, messages: list[Message]) -> list[Message]:
        if fleet.server.accepted < 5:
            return messages
        held.extend((time.monotonic(), message) for message in messages)
        began.extend(moment for moment, _ in held[:1] if not began)
        if fleet.server._desk.ledger._void and not slow:
            slow.append(time.monotonic() - began[0])
        ready = [message for moment, message in held if slow and time.monotonic() >= moment + slow[0]]
        held[:] = [(moment, message) for moment, message in held if message not in ready]
        return ready

    patience = unstale.Patience(floor=0.5, slowness=20.0, starting=60.0)
    run = ended(conducted_by(inside(heard), plan(workers=1, epochs=1), None, patience), BATCHES // 3)
    assert outcomes(run).count("late") == 1


def test_after_its_last_restart_a_worker_is_done_without() -> None:
    at = At()

    def heard(fleet: Inside, messages: list[Message]) -> list[Message]:
        time.sleep(0.005)  # or all would be done before the last restart
        return [Gone(1, "broken") if m.worker == 1 and isinstance(m, Arrived) else m for m in messages]

    patience = unstale.Patience(back_off=0.001, max_restarts=2)
    run = ended(conducted_by(inside(heard), plan(epochs=10), at, patience), None)
    assert at.incidents == [(1, "broken")] * 3
    one = about(run, 1)
    assert (one["state"], one["restarts"], one["accepted"]) == ("gone", 2, 0)
    assert run.status == "finished"


def test_when_all_are_gone_the_run_fails_and_says_why() -> None:
    live: LiveRun = conducted_by(
        inside(lambda fleet, ms: [Gone(m.worker, f"no luck ({m.worker})") for m in ms]), plan()
    )
    with pytest.raises(unstale.errors.RunError, match=r"all workers are gone after 0 pushes.*no luck \(1\)"):
        live.result(900)
    fleet = live._conductor.fleet
    assert isinstance(fleet, Inside)
    assert fleet.starts == 2 * (1 + 3)
