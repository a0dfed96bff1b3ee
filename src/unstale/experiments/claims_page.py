"""claims.md: each claim with verdict, effect sizes, intervals, tests and n; here, and in the paper's own numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from unstale.experiments.claims import CLAIMS, Claim, Finding
from unstale.experiments.effects import ENOUGH
from unstale.experiments.evidence import Evidence
from unstale.experiments.paper import ASSUMED_RUNS

__all__ = ["page"]

_METHOD = f"""\
How they are judged. A claim is made of differences, each of which must be above 0. It is *confirmed* where all of them
are, clearly: the 95% interval (bootstrap over seeds) and the t test (paired: the same seed is the same first weights,
order of data and clock) both exclude 0. It is *refuted* where one of them is as clearly below 0, at a level divided by
the number of differences. All else is *undecided*, and so is everything on fewer than {ENOUGH} seeds. "At least as" and
"about as good" overlook half a percent of the baseline's score. A diverged run counts with its score, one that ended
in NaN as chance. With three to five seeds a bootstrap interval is too narrow by itself; the t test is the stricter one.
"""
_PAPER = f"""\
The paper's own numbers are means and deviations: intervals and tests are Welch's. How many runs are behind them is not
known here: a mean with a deviation is read as {ASSUMED_RUNS} runs, one without as a single run.
"""


def page(evidence: Evidence, title: str, paper: Evidence | None = None, made_by: Sequence[str] = ()) -> str:
    """The page as Markdown."""
    lines = [f"# Claims: {title}", "", *_overview(evidence, paper), "", _METHOD]
    lines += [_PAPER] if paper is not None else []
    for claim in CLAIMS:
        lines += _section(claim, evidence, paper)
    return "\n".join([*lines, *made_by]).rstrip() + "\n"


def _overview(evidence: Evidence, paper: Evidence | None) -> Iterator[str]:
    yield "| claim | here |" + (" the paper's numbers |" if paper is not None else "")
    yield "|:--|:--|" + (":--|" if paper is not None else "")
    for claim in CLAIMS:
        verdicts = [_verdict(claim.find(given)) for given in (evidence, paper) if given is not None]
        yield f"| {claim.number}. {claim.text} | {' | '.join(verdicts)} |"


def _verdict(finding: Finding | None) -> str:
    return "cannot speak to it" if finding is None else f"**{finding.verdict}**"


def _section(claim: Claim, evidence: Evidence, paper: Evidence | None) -> Iterator[str]:
    yield f"## {claim.number}. {claim.text}"
    yield ""
    finding = claim.find(evidence)
    if finding is None:
        yield f"Here: cannot speak to it, which needs {claim.needs}."
        yield ""
    else:
        yield f"Here: {finding.told(evidence.runs)}."
        yield ""
        yield from _table(finding)
    theirs = None if paper is None else claim.find(paper)
    if theirs is not None and paper is not None:
        yield f"The paper's numbers: {theirs.told(paper.runs)}."
        yield ""
        unclear = [part for part in theirs.parts if not part.clear]
        if unclear and theirs.n >= ENOUGH:
            yield f"Not clear in them: {'; '.join(map(str, unclear))}."
            yield ""


def _table(finding: Finding) -> Iterator[str]:
    yield "| difference | N | effect | 95% interval | p | test | n | says |"
    yield "|:--|--:|--:|:--|--:|:--|--:|:--|"
    for part in finding.parts:
        effect = part.effect
        enough = effect.n >= ENOUGH
        says = "for" if part.clear else "against" if part.against(len(finding.parts)) else "noise"
        shown = (
            *(part.text, part.workers, effect.difference, effect.interval or "–", _p(effect.p(part.bound))),
            *(effect.test, f"{effect.n:g}", says if enough else "too few seeds"),
        )
        yield f"| {' | '.join(map(str, shown))} |"
    yield ""
    notes = dict.fromkeys(f"N = {part.workers}: {part.effect.note[1:-1]}" for part in finding.parts if part.effect.note)
    if notes:
        yield f"Diverged runs: {'; '.join(notes)}."
        yield ""


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"
