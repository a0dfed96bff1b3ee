from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unstale.experiments.effects import Effect, Sample, mean_of


def seeds(*values: float) -> Sample:
    return Sample.of(pd.Series(values, dtype=float))


def test_paired_differences_agree_with_scipy() -> None:
    ours, theirs = np.array([91.0, 92.5, 90.1, 91.7]), np.array([90.2, 91.0, 90.3, 90.9])
    effect = seeds(*ours).minus(seeds(*theirs))
    assert effect.p() == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert effect.p(0.5) == pytest.approx(stats.ttest_1samp(ours - theirs, 0.5).pvalue)
    assert (effect.n, effect.test) == (4, "paired t")
    assert (ours - theirs).min() <= effect.low < effect.mean < effect.high <= (ours - theirs).max()


def test_only_seeds_that_both_have_are_paired() -> None:
    ours = Sample.of(pd.Series([1.0, 2.0, 3.0], index=[0, 1, 2]))
    theirs = Sample.of(pd.Series([1.0, 1.0, 9.0], index=[2, 1, 7]))
    effect = ours.minus(theirs)
    assert effect.n == 2
    assert effect.mean == pytest.approx(1.5)


def test_means_and_deviations_agree_with_scipys_welch_test() -> None:
    ours, theirs = Sample(91.0, 0.4, 3), Sample(90.0, 0.7, 5)
    known = stats.ttest_ind_from_stats(91.0, 0.4, 3, 90.0, 0.7, 5, equal_var=False)
    effect = ours.minus(theirs)
    assert effect.p() == pytest.approx(known.pvalue)
    assert effect.p(effect.low) == pytest.approx(0.05)
    assert effect.n == 3


def test_against_a_constant() -> None:
    values = np.array([1.0, 2.0, 4.0])
    assert seeds(*values).minus(Sample.constant(1.0)).p() == pytest.approx(stats.ttest_1samp(values, 1.0).pvalue)
    known = stats.ttest_1samp(values, 1.0).pvalue
    assert Sample(values.mean(), values.std(ddof=1), 3).minus(Sample.constant(1.0)).p() == pytest.approx(known)


def test_the_interval_repeats_and_covers() -> None:
    """Of 200 samples of 20, about 95% have intervals that hold the mean."""
    draws = np.random.default_rng(0).normal(3.0, 1.0, (200, 20))
    found = [mean_of(draw) for draw in draws]
    assert found[0] == mean_of(draws[0])
    assert 0.88 <= np.mean([effect.low <= 3.0 <= effect.high for effect in found]) <= 0.99


def test_a_single_seed_has_no_interval_and_decides_nothing() -> None:
    effect = seeds(5.0).minus(seeds(1.0))
    assert effect.mean == 4.0
    assert math.isnan(effect.low)
    assert math.isnan(effect.p())
    assert not effect.above(0)
    assert not effect.below(9)
    assert str(effect) == "+4.0"


def test_no_spread_is_certain_and_equality_is_nothing() -> None:
    assert mean_of([2.0, 2.0, 2.0]) == Effect(2.0, 2.0, 2.0, 0.0, 2, 3, "t")
    assert mean_of([2.0, 2.0, 2.0]).above(0)
    assert not mean_of([0.0, 0.0, 0.0]).above(0)
    assert not mean_of([0.0, 0.0, 0.0]).below(0)


def test_interval_and_test_must_agree() -> None:
    """With three seeds the bootstrap alone would call this clear."""
    effect = mean_of([0.1, 2.0, 4.0])
    assert effect.low > 0
    assert not effect.above(0)


def test_nan_decides_nothing() -> None:
    effect = mean_of([math.nan, 1.0, 2.0])
    assert math.isnan(effect.mean)
    assert not effect.above(-100)
    assert math.isnan(mean_of([]).mean)


def test_numbers_are_written_with_signs() -> None:
    assert str(mean_of([-1.0, -2.0, -3.0])).startswith("−2.0 [−")
    assert mean_of([0.0123, 0.0123]).difference == "+0.012"
