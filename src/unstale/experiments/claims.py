"""What the paper claims, and what numbers say to it: a comparison's, or the paper's own.

A claim is made of parts, each a difference that must be above a bound. It is confirmed where all are, clearly; refuted
where one is clearly below; undecided otherwise, and always on fewer than three seeds.
Source: Barkai, Hakimi, Schuster, "Gap-Aware Mitigation of Gradient Staleness", ICLR 2020, tables 1 to 6, figure C.8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from unstale.experiments.effects import CONFIDENCE, ENOUGH, Effect
from unstale.experiments.evidence import Evidence
from unstale.experiments.recipes import PAPER

__all__ = ["CLAIMS", "TUNED", "Claim", "Finding", "Part", "Verdict", "sentences"]

TUNED = "tuned_asgd"
"""The label of ASGD with its best momentum and learning rate of 70."""
SPREAD_OUT = 16  # the paper's claims about many workers begin here

Verdict = Literal["confirmed", "refuted", "undecided"]


@dataclass(frozen=True)
class Part:
    """One difference: clearly above ``bound`` speaks for the claim, clearly below it against."""

    text: str
    workers: int
    effect: Effect
    bound: float = 0.0

    @property
    def holds(self) -> bool:
        """As far as the mean goes."""
        return self.effect.mean > self.bound

    @property
    def clear(self) -> bool:
        """Whether it speaks for the claim by more than noise."""
        return self.effect.above(self.bound)

    def against(self, parts: int) -> bool:
        """Whether it alone refutes a claim of so many parts: each is another chance to be wrong (Bonferroni)."""
        return self.effect.below(self.bound, (1 - CONFIDENCE) / parts)

    def __str__(self) -> str:
        return f"{self.text} {self.effect} at N = {self.workers}"


@dataclass(frozen=True)
class Finding:
    """What the data say to a claim. ``story``: what else is worth telling."""

    parts: tuple[Part, ...]
    story: str = ""

    @property
    def n(self) -> float:
        """Seeds that each part has at least."""
        return min(part.effect.n for part in self.parts)

    @property
    def verdict(self) -> Verdict:
        """Of all parts together."""
        if self.n < ENOUGH:
            return "undecided"
        if any(part.against(len(self.parts)) for part in self.parts):
            return "refuted"
        return "confirmed" if all(part.clear for part in self.parts) else "undecided"

    @property
    def weakest(self) -> Part:
        """What speaks least for the claim."""
        return min(self.parts, key=lambda part: part.effect.mean - part.bound)

    def told(self, runs: str = "seed") -> str:
        """The verdict with its numbers."""
        held = sum(part.holds for part in self.parts)
        counted = f"{self.n:g} {runs}{'' if self.n == 1 else 's'}"
        return f"{self._verdict} ({'; '.join(filter(None, [self._count(held), self.story, counted]))})"

    @property
    def _verdict(self) -> str:
        if self.verdict != "undecided":
            return self.verdict
        tends = "holds" if all(part.holds for part in self.parts) else "fails"
        return f"undecided, {tends} " + ("within noise" if self.n >= ENOUGH else "on too few seeds to tell")

    def _count(self, held: int) -> str:
        if len(self.parts) == 1:
            return str(self.weakest)
        return f"{held} of {len(self.parts)} comparisons hold, weakest {self.weakest}"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper. ``find`` gives None where the data lack what ``needs`` says."""

    number: int
    text: str
    needs: str
    find: Callable[[Evidence], Finding | None]

    def sentence(self, evidence: Evidence) -> str | None:
        """The claim and the finding, with numbers; None where the data cannot speak to it."""
        finding = self.find(evidence)
        return None if finding is None else f"Claim {self.number}, {self.text}: {finding.told(evidence.runs)}."


def sentences(evidence: Evidence) -> list[str]:
    """One sentence for each claim that the data can speak to, and one that names the others."""
    said = {claim: claim.sentence(evidence) for claim in CLAIMS}
    silent = [f"{claim.number} (needs {claim.needs})" for claim, sentence in said.items() if sentence is None]
    last = [f"This data cannot speak to claim {', '.join(silent)}."] if silent else []
    return [sentence for sentence in said.values() if sentence is not None] + last


def _finding(parts: Sequence[Part], story: str = "") -> Finding | None:
    return Finding(tuple(parts), story) if parts else None


def _at_least(label: str, over: str, least: int = 1) -> Callable[[Evidence], Finding | None]:
    """At least as good at every N."""
    return lambda evidence: _finding(_as_good(evidence, label, over, least))


def _as_good(evidence: Evidence, label: str, over: str, least: int = 1) -> list[Part]:
    """At each N; half a percent worse is overlooked."""
    counts = evidence.workers(label, over, least=least)
    return [Part(f"{label} over {over}", n, evidence.margin(label, over, n), -evidence.tolerance) for n in counts]


def _best(evidence: Evidence) -> Finding | None:
    """DANA-GA against each of the paper's other methods at each N; the baseline's losses follow from that."""
    rivals = evidence.present(label for label in PAPER if label != "dana_ga")
    counts = evidence.workers("dana_ga", *rivals, least=SPREAD_OUT) if len(rivals) > 1 else []
    parts = [Part(f"dana_ga over {label}", n, evidence.margin("dana_ga", label, n)) for n in counts for label in rivals]
    if not parts or evidence.baseline is None:
        return _finding(parts)
    ranked = sorted(("dana_ga", *rivals), key=lambda label: -evidence.samples[label, counts[-1]].mean)[:2]
    lost = {label: evidence.baseline.mean - evidence.samples[label, counts[-1]].mean for label in ranked}
    losses = ", ".join(f"{label} {loss:.1f}" for label, loss in lost.items())
    return _finding(parts, f"least lost against the baseline at N = {counts[-1]}: {losses}")


def _collapse(evidence: Evidence) -> Finding | None:
    """Where NAG-ASGD is said to have lost half of the baseline's score; at the largest N where nothing is said."""
    counts = [n for label, n in evidence.samples if label == "nag_asgd"]
    if not evidence.halves or evidence.baseline is None or max(counts, default=1) == 1:
        return None
    at = evidence.half_lost_at if evidence.half_lost_at in counts else max(counts)
    lost = [n for n in sorted(counts) if evidence.below_half("nag_asgd", n).mean > 0]
    story = f"half is lost from N = {lost[0]}" if lost else "half is never lost"
    return _finding([Part("nag_asgd below half of the baseline by", at, evidence.below_half("nag_asgd", at))], story)


def _crossing(evidence: Evidence) -> Finding | None:
    """DANA against GA from few workers to many, and DANA-GA where DANA has collapsed."""
    counts = evidence.workers("dana", "ga", "dana_ga")
    if not evidence.halves or evidence.baseline is None or len(counts) < 2:
        return None
    few, many = counts[0], counts[-1]
    behind = [n for n in counts if evidence.margin("dana", "ga", n).mean < 0]
    steadily = behind and behind == counts[-len(behind) :]
    return _finding(
        (
            Part("dana over ga", few, evidence.margin("dana", "ga", few)),
            Part("ga over dana", many, evidence.margin("ga", "dana", many)),
            Part("dana below half of the baseline by", many, evidence.below_half("dana", many)),
            Part("dana_ga above half of the baseline by", many, evidence.above_half("dana_ga", many)),
        ),
        f"dana is behind ga from N = {behind[0]}" if steadily else "",
    )


def _tuned(evidence: Evidence) -> Finding | None:
    """About as good as tuned ASGD."""
    labels = evidence.present(("ga", "dana_ga"))
    return _finding([part for label in labels for part in _as_good(evidence, label, TUNED)])


def _gap_below_delay(evidence: Evidence) -> Finding | None:
    """In more than half of the epochs of GA and DANA-GA, at each N that was looked at."""
    rows = evidence.epochs[evidence.epochs["method"].isin(("ga", "dana_ga"))]
    pairs = list(dict.fromkeys(zip(rows["method"], rows["workers"].astype(int), strict=True)))
    shares = [(label, n, evidence.share_below_delay(label, n)) for label, n in pairs]
    return _finding([Part(f"{label}: percent of epochs, over 50,", n, share) for label, n, share in shares])


CLAIMS = (
    Claim(1, "GA at least as accurate as SA at every N", "ga and sa", _at_least("ga", "sa")),
    Claim(
        2,
        "DANA-GA the best method at every N ≥ 16, losing least at the largest",
        "dana_ga and two others at N ≥ 16",
        _best,
    ),
    Claim(
        3, "NAG-ASGD collapses, losing half of the baseline's accuracy", "nag_asgd at N > 1, and an accuracy", _collapse
    ),
    Claim(
        4,
        "DANA beats GA at small N and collapses at large N, and the gap penalty removes the collapse",
        "dana, ga and dana_ga at two N, and an accuracy",
        _crossing,
    ),
    Claim(
        5,
        "DANA-GA at least as accurate as DANA-SA at every N ≥ 12",
        "dana_ga and dana_sa at N ≥ 12",
        _at_least("dana_ga", "dana_sa", 12),
    ),
    Claim(6, "GA and DANA-GA untuned are about as good as tuned ASGD", "ASGD tuned over 70 settings", _tuned),
    Claim(
        7,
        "the normalised gap is smaller than the delay for most of training",
        "ga or dana_ga with more than one worker",
        _gap_below_delay,
    ),
)
"""The paper's claims, in its order."""
