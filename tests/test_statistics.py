"""Intervals cover what they promise to, on draws whose truth is known."""

import numpy as np
import pytest

from dampen.errors import InputError
from dampen.statistics import over_folds, over_rows, over_seeds_and_rows


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
