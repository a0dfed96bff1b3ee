from __future__ import annotations

import math

import pytest

from tests.experiments import frames
from unstale.experiments.claims import CLAIMS, sentences
from unstale.experiments.evidence import Evidence


def sentence(number: int, evidence: Evidence) -> str:
    return CLAIMS[number - 1].sentence(evidence) or ""


@pytest.fixture(scope="module")
def cifar() -> Evidence:
    return frames.evidence(frames.of_table(frames.TABLE_4, 0.05), ga=(12.0, 5.0, 1.0), dana_ga=(5.0, 5.0, 5.0))


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (1, "confirmed (7 of 7 worker counts, smallest margin +0.2±0.0 at N = 4; 3 seeds)"),
        (
            2,
            "confirmed (4 of 4 worker counts, smallest margin +2.1±0.0 at N = 20; it loses 1.0 at N = 28, asgd 3.9",
        ),
        (3, "confirmed (10.0 of 92.4 at N = 12; 3 seeds)"),
        (4, "confirmed (DANA over GA +0.3±0.0 at N = 4 and −57.5±0.0 at N = 28, behind from N = 20; at N = 28 DANA"),
        (5, "confirmed (5 of 5 worker counts, smallest margin +1.6±0.0 at N = 12; 3 seeds)"),
        (7, "confirmed (2 of 3 epochs of ga and 3 of 3 epochs of dana_ga at N = 28; 3 seeds)"),
    ],
)
def test_what_the_papers_own_numbers_say(cifar: Evidence, number: int, says: str) -> None:
    assert says in sentence(number, cifar)


def test_claims_that_need_what_was_not_measured_are_named_last(cifar: Evidence) -> None:
    said = sentences(cifar)
    assert len(said) == 7
    assert said[-1] == "This data cannot speak to claim 6 (needs ASGD tuned over 70 settings)."
    assert all(line.startswith(f"Claim {n}, ") for n, line in zip((1, 2, 3, 4, 5, 7), said, strict=False))


def test_imagenet_where_all_but_dana_ga_diverge_in_the_end() -> None:
    table = frames.of_table(frames.TABLE_3, 0.05)
    imagenet = frames.evidence(table, baseline=75.64)
    assert "confirmed (3 of 3 worker counts, smallest margin +8.5" in sentence(1, imagenet)  # 128 is left out
    assert "4 of 4 worker counts, smallest margin +0.2±0.0 at N = 32 over dana; it loses 3.5 at N = 128" in sentence(
        2, imagenet
    )
    assert sentence(3, imagenet).startswith("Claim 3, NAG-ASGD collapses, losing half")
    assert "refuted (DANA over GA +4.6±0.0 at N = 32 and +5.1±0.0 at N = 64; at N = 64 DANA has" in sentence(
        4, imagenet
    )
    assert "confirmed (4 of 4" in sentence(5, imagenet)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_confirm_nothing(seeds: int) -> None:
    said = sentences(frames.evidence(frames.of_table(frames.TABLE_4, 0.05), seeds, ga=(1.0,)))
    assert not any("confirmed" in line or "refuted" in line for line in said)
    assert sum("too few to confirm" in line for line in said) == 6


def test_noise_confirms_nothing() -> None:
    scores = {("ga", 8): (90.1, 2.0), ("sa", 8): (90.0, 0.0)}
    assert "holds within noise (1 of 1 worker counts" in sentence(1, frames.evidence(scores))
    scores = {("ga", 8): (89.9, 2.0), ("sa", 8): (90.0, 0.0)}
    assert "fails within noise (0 of 1 worker counts, smallest margin −0.1±2.0" in sentence(1, frames.evidence(scores))


def test_a_clear_contrary_refutes() -> None:
    scores = {("ga", 8): (80.0, 0.1), ("sa", 8): (90.0, 0.1), ("ga", 16): (80.0, 0.1), ("sa", 16): (70.0, 0.1)}
    assert "refuted (1 of 2 worker counts, smallest margin −10.0±0.0 at N = 8" in sentence(1, frames.evidence(scores))


def test_a_diverged_method_loses_and_the_sentence_can_say_so() -> None:
    scores = {("ga", 8): (math.nan, 0.0), ("sa", 8): (90.0, 0.0)}
    said = sentence(1, frames.evidence(scores))
    assert "0 of 1 worker counts" in said
    assert "diverged at N = 8" in said


def test_where_lower_is_better_the_sign_turns() -> None:
    scores = {("ga", 8): (1.0, 0.0), ("sa", 8): (2.0, 0.0), ("nag_asgd", 8): (9.0, 0.0)}
    outline = frames.make_outline(scores, higher_is_better=False, score_name="loss", chance=None)
    evidence = Evidence(outline, frames.make_results(outline, scores, 0.5), frames.make_epochs())
    assert "confirmed (1 of 1 worker counts, smallest margin +1.0" in sentence(1, evidence)
    assert sentence(3, evidence) == ""  # half of an accuracy means nothing here


def test_nothing_to_say_without_the_methods() -> None:
    (line,) = sentences(frames.evidence({("asgd", 4): (90.0, 0.1)}))
    assert line.startswith("This data cannot speak to claim 1 (needs ga and sa), 2 (")
