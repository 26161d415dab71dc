"""Intervals cover what they promise to, on draws whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from dampen.errors import InputError
from dampen.metrics import METRICS, find, interval_of
from dampen.statistics import (
    Estimate,
    against_all,
    bonferroni,
    over_folds,
    over_rows,
    over_seeds_and_rows,
    paired_difference,
    proportion_interval,
)


def coverage(draw, estimate, truth, n=1000):
    intervals = [estimate(draw(np.random.default_rng(i))).interval(0.95) for i in range(n)]
    return np.mean([low <= truth <= high for low, high in intervals])


@pytest.mark.parametrize(("of_seeds", "of_rows"), [(1.0, 0.0), (0.0, 1.0), (0.3, 1.0), (0.0, 0.0)])
@pytest.mark.parametrize("S", [3, 10])
def test_seeds_and_rows_together_cover(of_seeds, of_rows, S):
    def draw(rng):
        seeds, rows = rng.normal(size=(S, 1)), rng.normal(size=60)
        return 2 + of_seeds * seeds + of_rows * rows + rng.normal(size=(S, 60))

    assert coverage(draw, over_seeds_and_rows, 2.0) > 0.915


def test_seeds_alone_would_not_cover():
    def draw(rng):
        return rng.normal(size=60) + 0.1 * rng.normal(size=(5, 60))

    assert coverage(draw, over_seeds_and_rows, 0.0) > 0.93
    assert coverage(draw, lambda values: over_rows(values.mean(1)), 0.0) < 0.5


def test_one_seed_s_rows_give_students_interval():
    from scipy.stats import t

    values = np.random.default_rng(0).normal(size=20)
    low, high = over_rows(values).interval(0.95)
    assert (low, high) == pytest.approx(t.interval(0.95, 19, values.mean(), values.std(ddof=1) / 20**0.5))


def test_folds_are_corrected_by_the_rows_they_share():
    values = np.array([1.0, 2.0, 4.0, 1.0])
    estimate = over_folds(values, 0.25)
    assert estimate.mean == 2.0
    assert estimate.error**2 == pytest.approx((1 / 4 + 0.25) * values.var(ddof=1))
    assert estimate.df == 3


def test_folds_of_different_sizes_count_by_their_rows():
    values, sizes = np.array([1.0, 2.0, 4.0, 1.0, 9.0]), np.array([200.0, 200, 200, 200, 2])
    estimate, equal = over_folds(values, 0.25, sizes), over_folds(values[:4], 0.25)
    assert estimate.mean == pytest.approx(np.average(values, weights=sizes))
    w = sizes / sizes.sum()
    spread = np.average((values - estimate.mean) ** 2, weights=w) / (1 - (w**2).sum())
    assert estimate.error**2 == pytest.approx(((w**2).sum() + 0.25) * spread)
    assert estimate.error == pytest.approx(equal.error, rel=0.15)  # the fifth fold holds next to nothing
    assert estimate.df == pytest.approx(equal.df, abs=0.05)
    assert over_folds(values, 0.25, np.full(5, 7.0)) == over_folds(values, 0.25)
    drawn = np.random.default_rng(0).normal(scale=1 / np.sqrt(sizes), size=(4000, 5))  # a mean over each fold's rows
    found = [over_folds(each, 0.0, sizes) for each in drawn]
    assert 0.94 < np.mean([low < 0 < high for low, high in (e.interval(0.95) for e in found)]) < 0.99


def test_a_probability_agrees_with_the_interval():
    estimate = over_rows(np.random.default_rng(0).normal(size=20))
    low, high = estimate.interval(0.95)
    assert estimate.probability_below(high) == pytest.approx(0.975)
    assert estimate.probability_below(low) == pytest.approx(0.025)


def test_too_few_draws_are_refused():
    with pytest.raises(InputError, match="at least 2 of each, got 1 and 5"):
        over_seeds_and_rows(np.ones((1, 5)))
    with pytest.raises(InputError, match="at least 2"):
        over_folds(np.ones(1), 0.25)
    with pytest.raises(InputError, match="at least 2"):
        over_rows(np.ones(1))


def test_equivalence_is_two_one_sided_tests():
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(0)
    for _ in range(40):
        values = rng.normal(0.1, 0.3, size=12)
        below = ttest_1samp(values, -0.25, alternative="greater").pvalue
        above = ttest_1samp(values, 0.25, alternative="less").pvalue
        for level in (0.9, 0.95):
            assert over_rows(values).equivalent(0.25, level) == (max(below, above) < 1 - level)


def test_differences_on_the_margin_are_rarely_called_equivalent():
    draws = [over_rows(np.random.default_rng(i).normal(0.5, 1.0, size=40)) for i in range(2000)]
    assert 0.035 < np.mean([draw.equivalent(0.5) for draw in draws]) < 0.065


def test_equivalence_without_a_spread():
    assert Estimate(0.01, 0.0, 4.0).equivalent(0.02)
    assert not Estimate(0.02, 0.0, 4.0).equivalent(0.02)
    assert not Estimate(0.0, np.nan, 4.0).equivalent(1e9)
    assert not Estimate(np.inf, np.nan, 1.0).equivalent(1e9)
    with pytest.raises(InputError, match=r"between 0\.5 and 1, got 0\.5"):
        Estimate(0.0, 1.0, 4.0).equivalent(1.0, 0.5)


@pytest.mark.parametrize(("k", "n"), [(0, 38), (1, 38), (19, 38), (37, 38), (38, 38), (1, 1), (990, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_a_share_of_independent_rows_has_wilson_s_interval(k, n, level):
    p = k / n
    found = proportion_interval(p, (p * (1 - p) / n) ** 0.5, n, np.inf, level)
    assert found == pytest.approx(tuple(binomtest(k, n).proportion_ci(level, "wilson")), abs=1e-12)


def test_a_share_s_interval_counts_rows_that_move_together_as_fewer():
    error = (0.9 * 0.1 / 20) ** 0.5  # as of 20 rows, of which there are 80
    found = proportion_interval(0.9, error, 80, np.inf)
    assert found == pytest.approx(tuple(binomtest(18, 20).proportion_ci(0.95, "wilson")))
    low, high = proportion_interval(0.9, error, 80, 4.0)
    assert low < found[0] < found[1] < high
    assert proportion_interval(0.9, 1e-9, 80, np.inf) == pytest.approx(
        tuple(binomtest(72, 80).proportion_ci(0.95, "wilson"))
    )


@pytest.mark.parametrize("truth", [0.9, 0.98])
def test_shares_over_seeds_and_rows_are_covered_where_students_interval_fails(truth):
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1500):
        difficulty = rng.beta(0.5 * truth, 0.5 * (1 - truth), size=40)  # rows differ, seeds agree on most
        estimate = over_seeds_and_rows((rng.random((4, 40)) < difficulty).astype(float))
        ends = (proportion_interval(estimate.mean, estimate.error, 40, estimate.df), estimate.interval())
        covered.append([low <= truth <= high for low, high in ends])
    wilson, student = np.mean(covered, axis=0)
    assert wilson > 0.93
    assert student < 0.92


def test_a_share_of_which_nothing_is_known_has_unknown_ends():
    for share, error in ((np.nan, 0.1), (0.5, np.nan), (0.5, np.inf), (1.0, np.nan)):
        assert np.isnan(proportion_interval(share, error, 10, 3.0)).all()
    with pytest.raises(InputError, match="1 row or more behind it, got 0"):
        proportion_interval(0.5, 0.1, 0, 3.0)
    with pytest.raises(InputError, match=r"0 to 1, got 1\.1"):
        proportion_interval(1.1, 0.1, 10, 3.0)


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 10**6), st.floats(1, 1e6))
def test_a_share_s_interval_holds_the_share_and_more(share, error, n, df):
    low, high = proportion_interval(share, error, n, df)
    assert 0 <= low <= high <= 1
    assert low - 1e-9 <= share <= high + 1e-9
    assert high > low


def test_intervals_hold_together_at_bonferroni_s_level():
    rng = np.random.default_rng(0)
    together, alone = [], []
    for _ in range(600):
        estimates = [over_rows(rng.normal(size=10)) for _ in range(6)]
        for level, found in ((bonferroni(0.95, 6), together), (0.95, alone)):
            found.append(all(low <= 0 <= high for low, high in (e.interval(level) for e in estimates)))
    assert 0.93 < np.mean(together) < 0.98
    assert np.mean(alone) < 0.8
    assert bonferroni(0.9, 1) == pytest.approx(0.9)
    with pytest.raises(InputError, match="1 or more, got 0"):
        bonferroni(0.95, 0)


def test_the_smallest_difference_is_above_zero_only_if_all_are():
    estimates = [Estimate(0.3, 0.1, 9.0), Estimate(0.35, 0.2, 9.0)]
    mean, low, high = against_all(estimates)
    assert mean == 0.3
    assert low == estimates[1].interval()[0] < 0 < estimates[0].interval()[0]
    assert high == estimates[0].interval()[1]
    assert against_all(estimates[:1]) == (0.3, *estimates[0].interval())
    assert against_all([*estimates, Estimate(9.0, 0.0, 4.0)]) == (mean, low, high)


def test_an_unknown_spread_leaves_the_smallest_difference_s_ends_unknown():
    for unknown in (Estimate(5.0, np.nan, 4.0), Estimate(np.inf, np.nan, 1.0)):
        mean, *ends = against_all([Estimate(0.3, 0.1, 9.0), unknown])
        assert mean == 0.3
        assert np.isnan(ends).all()
    with pytest.raises(InputError, match="1 or more, got 0"):
        against_all([])


def test_the_smallest_difference_needs_no_correction_below():
    rng = np.random.default_rng(0)
    truths = np.array([0.0, 0.0, 2.0])
    rejected = [against_all([over_rows(rng.normal(t, 1, size=12)) for t in truths])[1] > 0 for _ in range(1000)]
    assert np.mean(rejected) < 0.025
    rejected = [against_all([over_rows(rng.normal(t, 1, size=12)) for t in (0.0, 5.0)])[1] > 0 for _ in range(1000)]
    assert 0.012 < np.mean(rejected) < 0.04


def test_all_right_is_no_certainty():
    accuracy = find("accuracy", "classification")
    estimate = over_seeds_and_rows(np.zeros((5, 38)))
    low, high = interval_of(accuracy, estimate, 38, 0.95, 1.0)
    assert (low, high) == pytest.approx(tuple(binomtest(38, 38).proportion_ci(0.95, "wilson")))
    assert low < 0.92


def test_what_is_no_share_keeps_students_interval():
    estimate = Estimate(0.04, 0.03, 9.0)
    low, high = estimate.interval()
    assert low < 0
    assert interval_of(find("rmse", "regression"), estimate, 10, 0.95, 2.0) == (0.0, pytest.approx(2 * high**0.5))
    assert [m.name for m in METRICS.values() if m.is_share] == ["accuracy"]
    assert np.isnan(interval_of(find("accuracy", "classification"), Estimate(np.inf, np.nan, 1.0), 10)).all()


def test_values_that_are_no_pairs_are_refused_in_one_line():
    with pytest.raises(InputError, match="must come in pairs, got 3 and 2"):
        paired_difference([1.0, 2.0, 3.0], [1.0, 2.0])
