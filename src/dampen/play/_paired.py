"""The difference between two trainings with the same seeds, on the same rows, with its interval."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from dampen.statistics import over_seeds_and_rows


@dataclass(frozen=True)
class Difference:
    """By how much the chosen setting is better.

    Args:
        mean: test loss without regularisation minus with the chosen one: above 0 where the chosen one is better.
        low: lower end of the 95 % interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["better", "worse", "same", "unknown"]:
        """What follows: a sign is named only where the interval excludes 0."""
        if not math.isfinite(self.low + self.high):
            return "unknown"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "same"


def difference(losses: Float[np.ndarray, "S 2 N"]) -> Difference:
    """Estimate it as the verdict of a study does, over all seeds and rows that might have been drawn.

    Args:
        losses: of each test row: without regularisation, and with the chosen setting.
    """
    if not np.isfinite(losses).all():
        return Difference(math.nan, math.nan, math.nan)
    found = over_seeds_and_rows((losses[:, 0] - losses[:, 1]).astype(float))
    return Difference(found.mean, *found.interval())
