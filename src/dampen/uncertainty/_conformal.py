"""Split-conformal prediction: thresholds for prediction sets and intervals of a promised coverage."""

import math

from jaxtyping import Float, Int64
from torch import Tensor

from dampen.errors import InputError


def rows_for(level: float) -> int:
    """Return how many calibration rows a finite conformal threshold takes: `ceil(1 / (1 - level)) - 1`.

    Example:
        >>> rows_for(0.9), rows_for(0.95), rows_for(0.999)
        (9, 19, 999)
    """
    if not 0 < level < 1:
        raise InputError(f"a level lies between 0 and 1, got {level!r}")
    return math.ceil(1 / (1 - level) - 1e-9) - 1


def conformal(scores: Float[Tensor, " N"], level: float = 0.9, *, repeats: float | int = 1) -> float:
    """Return the threshold that a new row's score does not exceed with probability `level` or more.

    Split conformal prediction (Papadopoulos et al. 2002; Angelopoulos and Bates 2023, equation 1): the
    `ceil((N + 1) level)`-th smallest score, infinite where N is too small for the level. It holds for any network and
    any distribution, as long as the rows are exchangeable. `rows_for` gives the least number of rows.

    Args:
        scores: of rows that took no part in training: `1 - probability of the right class`, or
            `|target - mean| / deviation`.
        level: of the coverage.
        repeats: how often each row is among them, predicted by one network after the other.

    Raises:
        InputError: no rows, or a level outside 0 to 1.
    """
    N = len(scores)
    if not 0 < level < 1 or N == 0:
        raise InputError(f"conformal prediction needs rows and a level between 0 and 1, got {N} rows and {level!r}")
    k = math.ceil((N + repeats) * level - 1e-9)
    return math.inf if k > N else float(scores.double().sort().values[k - 1])


def class_scores(probabilities: Float[Tensor, "N C"], targets: Int64[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return `1 - probability of the right class`, the conformal score of classes (Sadinle, Lei and Wasserman 2019)."""
    return 1 - probabilities.gather(1, targets.unsqueeze(1)).squeeze(1)


def value_scores(
    targets: Float[Tensor, " N"], mean: Float[Tensor, " N"], deviation: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Return `|target - mean| / deviation`, the conformal score of values (Lei et al. 2018, section 5.2)."""
    return (targets.to(mean) - mean).abs() / deviation
