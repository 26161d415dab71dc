"""Folds that are given: pairs of row numbers, or what scikit-learn's splitters make of the training rows."""

import warnings
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from dampen._io import shortened
from dampen.errors import InputError

Pairs = tuple[tuple[Int[Tensor, " _"], Int[Tensor, " _"]], ...]
"""Row numbers that train and row numbers that are held out, for each fold."""

MOST = 100  # folds: each takes a training of its own
_ALIKE = 0.75  # least share of the largest training part that the others have: folds are cut to the smallest one


def of_splitter(
    folds: Any,
    features: Shaped[Tensor, "N ..."],
    targets: Shaped[Tensor, " N"],
    rows: Int[Tensor, " n"],
    groups: Int[Tensor, " N"] | None,
    classes: bool,
) -> Pairs:
    """Return the folds of an int or a splitter over some rows, as `sklearn.model_selection.check_cv` takes them.

    Args:
        folds: of scikit-learn, or pairs of row numbers, which come back as they are.
        features: all rows.
        targets: theirs.
        rows: that are split.
        groups: of all rows.
        classes: whether an int means stratified folds.

    Raises:
        InputError: neither, or a splitter that can't split these rows.
    """
    splits = hasattr(folds, "split") and not isinstance(folds, str | Tensor | type)
    if not splits and not isinstance(folds, int | np.integer):
        return tuple(_pair(pair, i) for i, pair in enumerate(_iterable(folds)))
    from sklearn.model_selection import check_cv

    labels = targets[rows].numpy()
    try:
        splitter: Any = check_cv(folds, labels, classifier=classes)  # type: ignore[arg-type]
        of_rows = None if groups is None else groups[rows].numpy()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)  # nobody gave them here
            parts = list(islice(splitter.split(features[rows].numpy(), labels, of_rows), MOST + 1))
    except (ValueError, TypeError) as e:
        raise InputError(f"folds: {shortened(e)}") from None
    highest = max((int(part.max()) for pair in parts for part in pair if len(part)), default=0)
    if highest >= len(rows):
        raise InputError(
            f"folds: the splitter names row {highest}, and there are {len(rows)} training rows, which it splits in "
            "their order, from 0: give one that is made for these"
        )
    return tuple((rows[torch.as_tensor(rest)], rows[torch.as_tensor(held)]) for rest, held in parts)


def _iterable(folds: Any) -> list[Any]:
    if isinstance(folds, str) or not isinstance(folds, Iterable):
        raise InputError(
            "folds must be a whole number, a splitter of scikit-learn, or pairs of row numbers (train, test), got "
            f"{shortened(repr(folds))}"
        )
    return list(folds)


def _pair(pair: Any, i: int) -> tuple[Tensor, Tensor]:
    try:
        rest, held = (np.asarray(part) for part in pair)
    except (TypeError, ValueError):
        raise InputError(f"fold {i + 1} must be a pair of lists of row numbers (train, test)") from None
    for part in (rest, held):
        if part.ndim != 1 or (part.dtype.kind not in "iu" and len(part)):
            raise InputError(
                f"fold {i + 1} must be a pair of lists of row numbers (train, test), got {part.dtype} "
                f"{list(part.shape)}"
            )
    return torch.from_numpy(rest.astype(np.int64)), torch.from_numpy(held.astype(np.int64))


def check(pairs: Pairs, train_rows: Int[Tensor, " n"], name: str) -> None:
    """Require folds of the training rows that networks can train on in lockstep.

    Raises:
        InputError: fewer than two or too many, rows that are none of the training rows or are on both sides, an empty
            side, or training parts of very different sizes.
    """
    if not 2 <= len(pairs) <= MOST:
        got = len(pairs) if len(pairs) <= MOST else f"more than {MOST}"
        raise InputError(f"folds of '{name}': 2 to {MOST} are taken, got {got}")
    for i, (rest, held) in enumerate(pairs):
        if not len(rest) or not len(held):
            raise InputError(
                f"fold {i + 1} of '{name}' has an empty side; give folds with rows to train and rows to hold out"
            )
        both = torch.cat([rest, held])
        if len(both.unique()) < len(both):
            raise InputError(f"fold {i + 1} of '{name}' has a row twice, or on both sides; give each row once")
        if not torch.isin(both, train_rows).all():
            raise InputError(f"fold {i + 1} of '{name}' has rows that are not among its training rows; give only those")
    sizes = [len(rest) for rest, _ in pairs]
    if min(sizes) < _ALIKE * max(sizes):
        raise InputError(
            f"the folds of '{name}' train on {min(sizes)} to {max(sizes)} rows, and how much regularisation is best "
            "depends on how many: give folds that train on about equally many, such as "
            f"TimeSeriesSplit(max_train_size={min(sizes)})"
        )


def apart(pairs: Pairs, groups: Int[Tensor, " N"] | None) -> tuple[Pairs, int]:
    """Take those rows out of each training part whose group, or copy, is held out; return how many rows that are."""
    if groups is None:
        return pairs, 0
    masks = [torch.isin(groups[rest], groups[held]) for rest, held in pairs]
    gone = torch.cat([rest[mask] for (rest, _), mask in zip(pairs, masks, strict=True)]).unique()
    return tuple((rest[~mask], held) for (rest, held), mask in zip(pairs, masks, strict=True)), len(gone)


def held_rows(pairs: Sequence[tuple[Tensor, Tensor]]) -> Int[Tensor, " n"]:
    """Return the rows that some fold holds out."""
    return torch.cat([held for _, held in pairs]).unique()


def a_round(pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return how many folds it takes on average until a row that is held out is so once: k of k-fold splits."""
    return len(pairs) * len(held_rows(pairs)) / sum(len(held) for _, held in pairs)
