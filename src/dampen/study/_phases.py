"""Which seeds and which rows each phase of a study has: neither has a part in what another one decides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from dampen.data import Data, a_round, equally_long, held_out
from dampen.errors import InputError
from dampen.study._protocol import FOLDS, Plan

CONFIRM_SEED, TEST_SEED = 1_000_000, 2_000_000  # away from the search's seeds: the verdict's luck is its own
CALIBRATION_SEED = 3_000_000
CALIBRATION_FOLDS, FEW = 10, 1000  # below so many rows the tenth that is left out is missed less than a fifth
MOST_GIVEN = 10  # folds that are given, for each of which ensembles train
CALIBRATION_ROWS = 300  # a variance of so many rows is known to 8 %: no more folds are needed


@dataclass(frozen=True)
class Split:
    """The rows of one phase for each seed.

    Args:
        sets: what `Population.fit` takes: one `Data` for all seeds, or one for each.
        selection: rows that rank settings, for all seeds or for each.
        evaluation: rows that the verdict rests on; with folds the same ones.
    """

    sets: Data | list[Data]
    selection: Any
    evaluation: Any

    @property
    def of_seeds(self) -> list[Data] | None:
        """One `Data` for each seed; None where all seeds share one."""
        return self.sets if isinstance(self.sets, list) else None

    @property
    def n_train(self) -> int:
        """How many rows each network trains on: folds have equally many."""
        return len((self.of_seeds or [self.sets])[0].train_rows)  # type: ignore[union-attr]

    def test_share(self) -> float:
        """Return the held-out rows over the training rows, the mean over folds."""
        sets = self.of_seeds or [self.sets]
        return float(np.mean([len(data.validation_rows) / len(data.train_rows) for data in sets]))  # type: ignore[union-attr]


def split(plan: Plan, seeds: Sequence[int], again: bool) -> Split:
    """Return a phase's rows, without the test rows: nobody sees those before the verdict.

    Args:
        plan: the study.
        seeds: of the phase.
        again: whether folds are drawn anew, for the confirmation.
    """
    data = replace(plan.data, test_rows=plan.data.test_rows[:0])
    if plan.scheme == "folds":
        repeats, searched = (math.ceil(len(of) / n_folds(data)) for of in (seeds, plan.seeds))
        counted = data.groups is not None and not data.copies.are(data.groups)  # their repeats have seed upon seed
        later = again * (searched if counted else 1)
        folds = equally_long(data.folds(FOLDS, repeats, seed=plan.seed + later)[: len(seeds)], plan.seed)
        rows = [fold.validation for fold in folds]
        return Split(folds, rows, rows)
    selection, evaluation = held_out(data, plan.seed)
    return Split(evaluation if again else selection, selection.validation, evaluation.validation)


def n_folds(data: Data) -> int:
    """Return how many folds a study has: those that are given, or five."""
    return FOLDS if data.given_folds is None else len(data.given_folds)


def folds_a_round(data: Data) -> float:
    """Return how many folds hold out each row once: fewer than there are where they overlap."""
    return float(FOLDS) if data.given_folds is None else a_round(data.given_folds)


def calibration_folds(plan: Plan) -> list[Data]:
    """Return as many folds as calibrating an ensemble takes, each to be left out by an ensemble of its own.

    Cross-conformal prediction (Vovk 2015, "Cross-conformal predictors"; Barber et al. 2021, "Predictive inference with
    the jackknife+", section 3) uses rows so: all of them are predicted by what has not seen them.
    """
    data = replace(plan.data, test_rows=plan.data.test_rows[:0])
    if data.given_folds is not None:
        return equally_long(given_round(data), plan.seed)
    few = len(data.train_rows) < FEW
    try:
        folds = data.folds(CALIBRATION_FOLDS if few else FOLDS, seed=plan.seed + 2)
    except InputError:  # a class or groups that are too few for ten
        folds = data.folds(FOLDS, seed=plan.seed + 2)
    folds = equally_long(folds, plan.seed)
    return folds[: n_calibration_folds(plan, of=len(folds[0].validation_rows))]


def given_round(data: Data) -> list[Data]:
    """Return folds that are given, at most ten, each with the rows that none before it holds out."""
    folds, held = [], torch.empty(0, dtype=torch.int64)
    for fold in data.folds():
        rows = fold.validation_rows[~torch.isin(fold.validation_rows, held)]
        if len(rows):
            folds.append(replace(fold, validation_rows=rows))
            held = torch.cat([held, rows])
    return [folds[i] for i in np.linspace(0, len(folds) - 1, min(len(folds), MOST_GIVEN)).round().astype(int)]


def n_calibration_folds(plan: Plan, kept: bool = True, of: int | None = None) -> int:
    """Return how many folds calibrating an ensemble takes: trainings for each seed that confirms; 0 of classes.

    Args:
        plan: the study.
        kept: whether it is kept in a folder; in memory they train when they are asked for, after the study.
        of: rows of a fold; None: as many as they should be.
    """
    if not plan.calibrates_ensembles or not kept:
        return 0
    n = len(plan.data.train_rows)
    # no more rows than the confirmation's networks leave out, one fold of five each: few seeds stay a short study
    rows = min(CALIBRATION_ROWS, n, int(n * len(plan.confirm_seeds) / folds_a_round(plan.data)))
    parts = CALIBRATION_FOLDS if n < FEW else FOLDS
    # a fold that is given, or of groups, is a site or a time, and may be unlike the others
    if plan.data.given_folds is not None:
        return len(given_round(plan.data))
    if plan.data.groups is not None and not plan.data.copies.are(plan.data.groups):
        return parts
    return max(1, math.ceil(rows / (of or max(1, n // parts)) - 0.5))
