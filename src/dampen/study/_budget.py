"""A study that fits a time: how many settings, seeds and epochs, from a measured training."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from dampen.data import Data
from dampen.errors import InputError
from dampen.knobs import Setting
from dampen.population import Model, Population

_MEMBERS = 16  # of the measured training: as many as a chunk of middle size holds
_ROWS = 8192  # that it trains on at most
_SEARCH = 0.5  # share of the time for the search; the rest decides how many seeds confirm
_SPARE, _LEAST_SPARE = 0.03, 2.0  # share, and seconds at least, for judging, writing and the report
_LEAST, _MOST = 8, 4096  # settings
CONFIRM_SEEDS = 3, 200


def seconds_per_member_epoch(model: Model, data: Data, training: dict[str, Any]) -> float:
    """Measure what an epoch of a member takes, on the training rows or a part of them."""
    rows = data.train_rows[: min(_ROWS, len(data.train_rows))]
    part = replace(data, train_rows=rows, validation_rows=rows[:0], test_rows=rows[:0])
    settings = [Setting(weight_decay=k / _MEMBERS) for k in range(_MEMBERS)]
    population = Population(model, settings, [0])
    population.fit(part, epochs=3, until=1, **training)  # records the program, and warms up
    started = time.perf_counter()
    population.fit(part, epochs=3, **training)
    measured = (time.perf_counter() - started) / (2 * _MEMBERS)
    if training["device"] != "cpu":
        torch.cuda.synchronize()
    return measured * len(data.train_rows) / len(rows)


def fit_search(
    budget: float,
    rate: float,
    full: int,
    member_epochs: Callable[[int, int, int], float],
    settings: int | None,
    seeds: int | None,
    epochs: int,
    fixed_epochs: bool,
) -> tuple[int, int, int]:
    """Return settings, seeds and epochs whose search takes its share of a budget.

    Args:
        budget: seconds.
        rate: seconds of a member's epoch.
        full: full trainings for each confirming seed.
        member_epochs: of a search with so many settings, seeds and epochs.
        settings: as asked for; None lets the budget choose.
        seeds: likewise.
        epochs: as asked for, or the default.
        fixed_epochs: whether they were asked for.

    Raises:
        InputError: the least search does not fit.
    """
    goal = _SEARCH * budget / rate

    def fits(n: int, of_seeds: int, length: int) -> bool:
        rest = ((1 - _SEARCH) * budget - _spare(budget)) / rate
        return member_epochs(n, of_seeds, length) <= goal and full * CONFIRM_SEEDS[0] * length <= rest

    lengths = [epochs] if fixed_epochs else list(range(epochs, 1, -1))
    for of_seeds, length in [(s, n) for n in lengths for s in ([seeds] if seeds else [3, 2])]:
        counts = range(settings or _LEAST, (settings or _MOST) + 1)
        if not fits(counts[0], of_seeds, length):
            continue
        low, high = 0, len(counts) - 1
        while low < high:  # the most settings that fit
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(counts[middle], of_seeds, length) else (low, middle - 1)
        return counts[low], of_seeds, length
    least = max(
        member_epochs(settings or _LEAST, seeds or 2, lengths[-1]) * rate / _SEARCH,
        (full * CONFIRM_SEEDS[0] * lengths[-1] * rate + _LEAST_SPARE) / (1 - _SEARCH),
    )
    raise InputError(f"a budget of {budget:.0f} s is too short: the smallest study takes {math.ceil(least)} s")


def confirm_seeds(left: float, budget: float, rate: float, full: int, epochs: int) -> int:
    """Return how many confirming seeds the seconds that are left allow; arguments as for `fit_search`."""
    return min(max(int((left - _spare(budget)) / (rate * full * epochs)), CONFIRM_SEEDS[0]), CONFIRM_SEEDS[1])


def _spare(budget: float) -> float:
    return max(_SPARE * budget, _LEAST_SPARE)
