"""Intervals for paired differences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dampen.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it.

    Args:
        mean: the estimate.
        low: lower end; NaN where a single pair leaves the spread unknown.
        high: upper end; likewise.
        n: pairs behind it.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign of the difference is settled at this level; False where the spread is unknown."""
        return self.low > 0 or self.high < 0


def paired_difference(
    a: Sequence[float] | Float[np.ndarray, " S"],
    b: Sequence[float] | Float[np.ndarray, " S"],
    level: float = 0.95,
) -> Interval:
    """Return the mean of `a - b` over pairs, with Student's interval (Student 1908; S - 1 degrees of freedom).

    Args:
        a: one value for each seed.
        b: the other value of each pair.
        level: coverage of the interval, between 0 and 1.

    Raises:
        InputError: the two differ in length, or are empty.

    Example:
        >>> found = paired_difference([3.0, 4.0, 5.0], [1.0, 1.0, 1.0])
        >>> found.mean, round(found.low, 3), round(found.high, 3)
        (3.0, 0.516, 5.484)
    """
    if len(a) != len(b) or len(a) == 0:
        raise InputError(f"paired values must come in pairs, got {len(a)} and {len(b)}")
    differences = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    n = len(differences)
    mean = float(differences.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, n)
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, (1 + level) / 2) * differences.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Estimate:
    """A mean, how far off it may be, and what follows from both by Student's t.

    Args:
        mean: the estimate.
        error: its standard error; NaN where the spread is unknown.
        df: degrees of freedom of the error.
    """

    mean: float
    error: float
    df: float

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the ends of the interval that covers the true mean with this probability."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.df, (1 + level) / 2)) * self.error
        return self.mean - half, self.mean + half

    def equivalent(self, margin: float, level: float = 0.95) -> bool:
        """Return whether the true mean is shown to be nearer to 0 than a margin: two one-sided tests.

        Each test has size `1 - level`, so that the interval of coverage `2 level - 1` lies within the margins
        (Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach"). False where the
        spread is unknown.

        Args:
            margin: in the unit of the mean, above 0: the largest difference that doesn't matter.
            level: 1 minus the probability of being wrong, between 0.5 and 1.

        Raises:
            InputError: the level is outside 0.5 to 1.

        Example:
            >>> Estimate(0.01, 0.02, 30.0).equivalent(0.05), Estimate(0.01, 0.02, 30.0).equivalent(0.04)
            (True, False)
        """
        if not 0.5 < level < 1:
            raise InputError(f"the level of an equivalence must be between 0.5 and 1, got {level}")
        low, high = self.interval(2 * level - 1)
        return -margin < low and high < margin

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign is settled by the 95 % interval; False where the spread is unknown."""
        low, high = self.interval()
        return low > 0 or high < 0

    def probability_below(self, value: float = 0.0) -> float:
        """Return the probability that the true mean is below a value (a flat prior, Student's posterior)."""
        from scipy.special import stdtr

        if not self.error > 0:
            return math.nan if math.isnan(self.error) else float(self.mean < value)
        return float(stdtr(self.df, (value - self.mean) / self.error))


def over_rows(values: Float[np.ndarray, " N"]) -> Estimate:
    """Estimate the mean over all rows that might have been drawn, of which N were.

    Raises:
        InputError: fewer than two rows.
    """
    N = len(values)
    if N < 2:
        raise InputError(f"an interval over rows needs at least 2, got {N}")
    return Estimate(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(N), float(N - 1))


def over_seeds_and_rows(values: Float[np.ndarray, "S N"]) -> Estimate:
    """Estimate the mean over all seeds and all rows that might have been drawn, of which S and N were.

    Seeds and rows are crossed random effects. With mean squares of the two-way layout (Searle, Casella and McCulloch
    1992, "Variance components", section 4.2), `Var(mean) = (MS_seeds + MS_rows - MS_rest) / (S N)`; degrees of freedom
    by Satterthwaite (1946).

    Raises:
        InputError: fewer than two seeds or two rows.
    """
    S, N = values.shape
    if S < 2 or N < 2:
        raise InputError(f"an interval over seeds and rows needs at least 2 of each, got {S} and {N}")
    mean = values.mean()
    of_seeds, of_rows = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - of_seeds[:, None] - of_rows
    dfs = np.array([S - 1, N - 1, (S - 1) * (N - 1)], dtype=float)
    squares = np.array([N * (of_seeds**2).sum(), S * (of_rows**2).sum(), (rest**2).sum()]) / dfs
    # A component can't be below 0: where the rest outweighs the sum of the others, it alone remains.
    terms = np.array([squares[0], squares[1], -min(squares[2], squares[0], squares[1])]) / (S * N)
    variance = float(terms.sum())
    df = variance**2 / float((terms**2 / dfs).sum()) if variance > 0 else float(S - 1)
    return Estimate(float(mean), math.sqrt(max(variance, 0.0)), max(df, 1.0))


def over_members(values: Float[np.ndarray, "S N"]) -> Estimate:
    """Estimate the mean over all seeds and rows that might have been drawn, of a single seed over rows alone.

    A single row has a mean and no interval.
    """
    S, N = values.shape
    if N < 2:
        return Estimate(float(values.mean()), float("nan"), 1.0)
    return over_seeds_and_rows(values) if S > 1 else over_rows(values[0])


def over_folds(
    values: Float[np.ndarray, " J"], test_share: float, sizes: Float[np.ndarray, " J"] | None = None
) -> Estimate:
    """Estimate the mean over training and test sets that might have been drawn, from repeated cross-validation.

    Folds share training rows, so their results are no independent draws: the variance of the mean is
    `(1 / J + n_test / n_train) * s^2` (Nadeau and Bengio 2003, "Inference for the generalization error", equation 9).
    Folds that hold out different numbers of rows count by these, w with sum 1: `sum(w^2)` is in the place of `1 / J`,
    and s^2 is the weighted variance over `1 - sum(w^2)`, with `1 / sum(w^2) - 1` degrees of freedom (Kish 1965).

    Args:
        values: one for each fold and repetition.
        test_share: held-out rows over training rows, `n_test / n_train`.
        sizes: held-out rows of each; None where all have equally many.

    Raises:
        InputError: fewer than two folds.
    """
    J = len(values)
    if J < 2:
        raise InputError(f"an interval over folds needs at least 2, got {J}")
    if sizes is None or (sizes == sizes[0]).all():
        error = math.sqrt((1 / J + test_share) * values.var(ddof=1))
        return Estimate(float(values.mean()), error, float(J - 1))
    w = sizes / sizes.sum()
    shared = float(w @ w)
    error = math.sqrt((shared + test_share) * variance_by_size(values, sizes))
    return Estimate(float(w @ values), error, max(1.0, 1 / shared - 1))


def variance_by_size(values: Float[np.ndarray, " J"], sizes: Float[np.ndarray, " J"]) -> float:
    """Return the variance between folds that count by their rows, weights w with sum 1, over `1 - sum(w^2)`.

    Example:
        >>> variance_by_size(np.array([1.0, 2.0, 3.0]), np.ones(3))
        1.0
    """
    if (sizes == sizes[0]).all():
        return float(values.var(ddof=1))
    w = sizes / sizes.sum()
    return float(w @ np.square(values - w @ values)) / (1 - float(w @ w))


def mean_by_size(values: Float[np.ndarray, "J ..."], sizes: Sequence[float]) -> Float[np.ndarray, "..."]:
    """Return the mean over folds, which count by their rows.

    Example:
        >>> mean_by_size(np.array([[1.0], [4.0]]), [2.0, 1.0])
        array([2.])
    """
    return values.mean(0) if len(set(sizes)) == 1 else np.average(values, axis=0, weights=sizes)


def proportion_interval(share: float, error: float, n: int, df: float, level: float = 0.95) -> tuple[float, float]:
    """Return the ends of an interval for a share, which is no single point where every row or none is right.

    Wilson's score interval (Wilson 1927; Brown, Cai and DasGupta 2001, "Interval estimation for a binomial proportion",
    equation 4) with an effective number of rows `share (1 - share) / error^2`, at most n, for rows and seeds that are
    not independent (Korn and Graubard 1998, "Confidence intervals for proportions with small expected number of
    positive counts estimated from survey data"), and with Student's quantile for an error that is itself estimated.
    Where the rows don't differ (share 0 or 1, or error 0) no error was estimated: n rows and the normal quantile.

    Args:
        share: the estimate, 0 to 1.
        error: its standard error; NaN where it is unknown, and so are the ends.
        n: independent rows, or groups of rows, behind it, 1 or more.
        df: degrees of freedom of the error.
        level: coverage of the interval, between 0 and 1.

    Raises:
        InputError: n is below 1, or the share outside 0 to 1.

    Example:
        >>> [round(end, 3) for end in proportion_interval(1.0, 0.0, 38, 4.0)]
        [0.908, 1.0]
    """
    from scipy.special import ndtri, stdtrit

    if n < 1:
        raise InputError(f"a share needs 1 row or more behind it, got {n}")
    if share < -_ROUNDING or share > 1 + _ROUNDING:
        raise InputError(f"a share must be 0 to 1, got {share}")
    if not (math.isfinite(share) and math.isfinite(error)):
        return math.nan, math.nan
    share = 0.0 if share < _ROUNDING else 1.0 if share > 1 - _ROUNDING else share
    spread = share * (1 - share)
    if spread > 0 and error > 0:
        size, z = spread / max(error**2, spread / n), float(stdtrit(df, (1 + level) / 2))
    else:
        size, z = float(n), float(ndtri((1 + level) / 2))
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * math.sqrt(spread / size + z**2 / (4 * size**2))
    return max(min(centre - half, share), 0.0), min(max(centre + half, share), 1.0)


_ROUNDING = 1e-9  # a weighted mean of rows that are all right may miss 0 or 1 by less than this


def bonferroni(level: float, n: int) -> float:
    """Return the level of each of n intervals that all hold together with probability `level` or more.

    `1 - (1 - level) / n` (Dunn 1961, "Multiple comparisons among means").

    Raises:
        InputError: n is below 1.

    Example:
        >>> round(bonferroni(0.95, 5), 6)
        0.99
    """
    if n < 1:
        raise InputError(f"intervals that hold together must be 1 or more, got {n}")
    return 1 - (1 - level) / n


def against_all(estimates: Sequence[Estimate], level: float = 0.95) -> tuple[float, float, float]:
    """Return mean, low and high of the smallest of several true differences.

    Low is the smallest of the low ends: above 0 only if every difference is shown to be, and then it needs no
    correction for their number (Berger 1982, "Multiparameter hypothesis testing and acceptance sampling", theorem 1),
    nor any independence. The smallest difference lies below it with probability `(1 - level) / 2` at most. High is the
    smallest of the high ends, which does count on them all: it is too low with at most n times that probability, as a
    union of n tests; take `bonferroni(level, n)` for a high end that holds. The mean, the smallest of the means, is
    biased downwards where several are alike.

    Args:
        estimates: of each reference's cost minus the recommended setting's.
        level: coverage of each difference's interval, between 0 and 1.

    Returns the three in the unit of the estimates; NaN ends where any spread is unknown.

    Raises:
        InputError: there is none.

    Example:
        >>> [round(v, 2) for v in against_all([Estimate(0.3, 0.1, 1e9), Estimate(0.5, 0.2, 1e9)])]
        [0.3, 0.1, 0.5]
    """
    if not estimates:
        raise InputError("the smallest of several differences needs 1 or more, got 0")
    ends = np.array([estimate.interval(level) for estimate in estimates])
    low, high = ends.min(0)  # NaN if any is
    return float(np.min([estimate.mean for estimate in estimates])), float(low), float(high)
