"""Rows that were not trained on: some rank settings, the others are what a verdict rests on."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from dampen.data import _splits
from dampen.data._dataset import Data, Rows
from dampen.errors import InputError

HELD_OUT = 0.2  # of the training rows: a half ranks, a half gives the verdict
_JUDGES = 2  # rows or groups that an interval takes at least
_FEW = 0.05  # of the held-out rows, which folds of equally many may leave out: they train faster


def held_out(data: Data, seed: int) -> tuple[Data, Data]:
    """Return the data twice, with the validation rows that rank and with those that judge; set aside if it has none.

    Raises:
        InputError: there are too few rows, or groups, for an interval of what is judged.
    """
    if not len(data.validation_rows):
        data = data.with_validation(HELD_OUT, seed=seed)
    selection, evaluation = (replace(data, validation_rows=data.validation_rows[half]) for half in _halves(data, seed))
    if data.groups is None and len(evaluation.validation_rows) < _JUDGES:
        raise InputError(
            f"the {len(data.validation_rows)} validation rows of '{data.name}' can't be halved so that {_JUDGES} rows "
            "or more judge: give more of them, or more times"
        )
    if data.groups is not None and len(data.groups[evaluation.validation_rows].unique()) < _JUDGES:
        n = len(data.groups[data.validation_rows].unique())
        raise InputError(
            f"the validation rows of '{data.name}' are of {n} groups, and can't be halved so that {_JUDGES} groups or "
            "more judge what others rank: use rows of more groups"
        )
    return selection, evaluation


def repeated(parts: Sequence[Rows]) -> float:
    """Return how often a row is there, in the mean, in parts of which some may hold the same rows of their data."""
    numbers = [part.numbers for part in parts if part.numbers is not None]
    n = sum(map(len, parts))
    if len(numbers) == len(parts):
        return n / len(torch.cat(numbers).unique())
    return n / sum(map(len, {id(part): part for part in parts}.values()))


def _halves(data: Data, seed: int) -> Sequence[torch.Tensor]:
    """Return the places of two halves of the validation rows: drawn; groups whole; in time, the later one judges."""
    n = len(data.validation_rows)
    generator = torch.Generator().manual_seed(seed)
    if data.times is not None:
        ranks = data.times[data.validation_rows]
        ranks, order = ranks.sort(stable=True)
        groups = None if data.groups is None else data.groups[data.validation_rows][order]
        cuts = _splits.cuts(ranks, groups)  # rows of one time stay together, and those of one group
        if groups is not None and not len(cuts):
            raise InputError(
                f"the validation rows of '{data.name}' can't be halved in time: no time has all rows of every group on "
                "one side of it; leave time_order or group out"
            )
        if groups is not None:  # two of them judge, if they can
            enough = cuts[cuts <= (groups != groups[-1]).nonzero().flatten()[-1:]]
            cuts = enough if len(enough) else cuts
        cut = int(cuts[(cuts - n / 2).abs().argmin()]) if len(cuts) else n // 2
        return [part.sort().values for part in order.tensor_split([cut])]
    if data.groups is None:
        return torch.randperm(n, generator=generator).tensor_split(2)
    groups, members = data.groups[data.validation_rows].unique(return_inverse=True)
    place = torch.randperm(len(groups), generator=generator)[members]
    order = place.argsort(stable=True)
    sizes = place.bincount().cumsum(0)[: max(1, len(groups) - _JUDGES)]
    return order.tensor_split([int(sizes[(sizes - n / 2).abs().argmin()])])


def equally_long(folds: Sequence[Data], seed: int) -> list[Data]:
    """Leave out the few rows by which some folds are longer: seeds with equally many rows train in lockstep.

    Where held-out rows differ by more than a few, all of them evaluate, in lockstep with those of equally many.
    """
    generator = torch.Generator().manual_seed(seed)

    def cut(rows: torch.Tensor, n: int) -> torch.Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:n].sort().values] if len(rows) > n else rows

    n_train, held = min(len(f.train_rows) for f in folds), [len(f.validation_rows) for f in folds]
    n_validation = min(held) if min(held) * len(held) >= (1 - _FEW) * sum(held) else max(held)
    return [
        replace(f, train_rows=cut(f.train_rows, n_train), validation_rows=cut(f.validation_rows, n_validation))
        for f in folds
    ]


def training_and_validation_rows(data: Data) -> Data:
    """Return the data with its validation rows among the training rows, for the last training."""
    rows = torch.cat([data.train_rows, data.validation_rows]).sort().values
    return replace(data, train_rows=rows, validation_rows=data.validation_rows[:0])
