"""What the paper claims, and what a comparison's results say to it.

Source: Barkai, Hakimi, Schuster, "Gap-Aware Mitigation of Gradient Staleness", ICLR 2020, tables 3 to 6 and figure C.8.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unstale.experiments.evidence import ENOUGH, Evidence, Margin
from unstale.experiments.recipes import PAPER

__all__ = ["CLAIMS", "Claim", "Finding", "sentences"]

SPREAD_OUT = 16  # the paper's claims about many workers begin here
COLLAPSED = 0.5  # of the baseline's accuracy


@dataclass(frozen=True)
class Finding:
    """What the data say. ``holds``: as the claim says; ``clear``: by more than noise, over enough seeds."""

    holds: bool
    clear: bool
    details: str


@dataclass(frozen=True)
class Claim:
    """One claim of the paper. ``judge`` gives None where the data lack what ``needs`` says."""

    number: int
    text: str
    needs: str
    judge: Callable[[Evidence], Finding | None]

    def sentence(self, evidence: Evidence) -> str | None:
        """The claim and the finding, with numbers; None where the data cannot speak to it."""
        finding = self.judge(evidence)
        if finding is None:
            return None
        seeds = f"{evidence.n} seed{'' if evidence.n == 1 else 's'}"
        seeds += ", too few to confirm" if evidence.n < ENOUGH else ""
        return f"Claim {self.number}, {self.text}: {_verdict(finding, evidence.n)} ({finding.details}; {seeds})."


def sentences(evidence: Evidence) -> list[str]:
    """One sentence for each claim that the data can speak to, and one that names the others."""
    said = {claim: claim.sentence(evidence) for claim in CLAIMS}
    silent = [f"{claim.number} (needs {claim.needs})" for claim, sentence in said.items() if sentence is None]
    last = [f"This data cannot speak to claim {', '.join(silent)}."] if silent else []
    return [sentence for sentence in said.values() if sentence is not None] + last


def _verdict(finding: Finding, seeds: int) -> str:
    if seeds >= ENOUGH and finding.clear:
        return "confirmed" if finding.holds else "refuted"
    noise = " within noise" if seeds >= ENOUGH else ""
    return f"{'holds' if finding.holds else 'fails'}{noise}"


def _everywhere(margins: Sequence[Margin]) -> Finding | None:
    """At least as good at every N."""
    if not margins:
        return None
    good = [margin for margin in margins if margin.mean >= 0]
    least = min(margins, key=lambda margin: margin.mean)
    holds = len(good) == len(margins)
    rival = f" over {least.over}" if len({margin.over for margin in margins}) > 1 else ""
    details = f"{len(good)} of {len(margins)} worker counts, smallest margin {least}{rival}"
    return Finding(holds, least.clear, details)


def _pair(label: str, over: str, least: int = 1) -> Callable[[Evidence], Finding | None]:
    def judge(evidence: Evidence) -> Finding | None:
        return _everywhere([evidence.margin(label, over, n) for n in evidence.workers(label, over, least=least)])

    return judge


def _best(evidence: Evidence) -> Finding | None:
    """DANA-GA against the best of the paper's other methods at each N, and against the baseline at the largest."""
    rivals = evidence.present(label for label in PAPER if label != "dana_ga")
    counts = evidence.workers("dana_ga", *rivals, least=SPREAD_OUT) if rivals else []
    margins = [min((evidence.margin("dana_ga", over, n) for over in rivals), key=lambda m: m.mean) for n in counts]
    finding = _everywhere(margins)
    if finding is None:
        return None
    largest, second = counts[-1], margins[-1].over
    losses = f"{_loss(evidence, 'dana_ga', largest)} at N = {largest}, {second} {_loss(evidence, second, largest)}"
    return Finding(finding.holds, finding.clear, f"{finding.details}; it loses {losses}")


def _loss(evidence: Evidence, label: str, workers: int) -> str:
    """Against the baseline."""
    loss = evidence.outline.sign * (evidence.baseline - evidence.mean(label, workers))
    return "all" if math.isnan(loss) else f"{loss:.1f}"


def _collapse(evidence: Evidence) -> Finding | None:
    """Where NAG-ASGD has lost half of the baseline's accuracy."""
    counts = [n for n in evidence.outline.workers if not math.isnan(evidence.mean("nag_asgd", n))]
    if not _judged_by_halves(evidence) or "nag_asgd" not in evidence.outline.labels or not counts:
        return None
    lost = [n for n in counts if _collapsed(evidence, "nag_asgd", n)]
    shown = lost[0] if lost else counts[-1]
    scores = f"{evidence.mean('nag_asgd', shown):.1f} of {evidence.baseline:.1f}"
    return Finding(bool(lost), True, f"{scores} at N = {shown}")


def _crossing(evidence: Evidence) -> Finding | None:
    """DANA against GA from few workers to many, and DANA-GA where DANA has collapsed."""
    counts = [n for n in evidence.outline.workers if n in evidence.workers("dana", "ga")]
    if not _judged_by_halves(evidence) or len(counts) < 2 or "dana_ga" not in evidence.outline.labels:
        return None
    margins = [evidence.margin("dana", "ga", n) for n in counts]
    few, many = margins[0], margins[-1]
    dana, dana_ga = (evidence.mean(label, many.workers) for label in ("dana", "dana_ga"))
    rescued = _collapsed(evidence, "dana", many.workers) and not _collapsed(evidence, "dana_ga", many.workers)
    behind = [n for n, margin in zip(counts, margins, strict=True) if margin.mean < 0]
    turn = f", behind from N = {behind[0]}" if behind and few.mean >= 0 and behind == counts[-len(behind) :] else ""
    details = f"DANA over GA {few} and {many}{turn}; at N = {many.workers} DANA has {dana:.1f}, DANA-GA {dana_ga:.1f}"
    return Finding(few.mean >= 0 > many.mean and rescued, few.clear and many.clear, details)


def _judged_by_halves(evidence: Evidence) -> bool:
    return evidence.outline.higher_is_better and evidence.baseline > 0


def _collapsed(evidence: Evidence, label: str, workers: int) -> bool:
    return not evidence.mean(label, workers) > COLLAPSED * evidence.baseline


def _gap_below_delay(evidence: Evidence) -> Finding | None:
    """Over the epochs of GA and DANA-GA at the largest N."""
    shares = []
    for label in evidence.present(("ga", "dana_ga")):
        rows = evidence.epochs[evidence.epochs["method"] == label]
        if len(rows):
            shares.append((label, int((rows["normalised_gap"] < rows["delay"]).sum()), len(rows)))
    if not shares:
        return None
    told = " and ".join(f"{below} of {total} epochs of {label}" for label, below, total in shares)
    holds = all(2 * below > total for _, below, total in shares)
    return Finding(holds, True, f"{told} at N = {evidence.outline.largest}")


def _tuned(evidence: Evidence) -> None:
    """A comparison tunes nothing."""


CLAIMS = (
    Claim(1, "GA at least as accurate as SA at every N", "ga and sa", _pair("ga", "sa")),
    Claim(
        2,
        "DANA-GA the best method at every N ≥ 16, losing least at the largest",
        "dana_ga and others at N ≥ 16",
        _best,
    ),
    Claim(3, "NAG-ASGD collapses, losing half of the baseline's accuracy", "nag_asgd, and an accuracy", _collapse),
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
        _pair("dana_ga", "dana_sa", 12),
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
