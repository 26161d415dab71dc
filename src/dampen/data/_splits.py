"""Drawing rows from a seed: each class in its share, the same rows for the same seed."""

import math
import warnings

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from dampen.errors import InputError

_SEEDS = 2**32  # numpy's legacy generator, which scikit-learn uses, takes 32 bits


def count(fraction: float, n_rows: int, what: str, *, zero_allowed: bool = False) -> int:
    """Count the rows in `fraction` of `n_rows`, rounded up as scikit-learn does."""
    if not (0 < fraction < 1 or (zero_allowed and fraction == 0)):
        lowest = "0 or larger" if zero_allowed else "larger than 0"
        raise InputError(f"{what} must be {lowest} and smaller than 1, got {fraction:g}")
    return math.ceil(fraction * n_rows)


def draw(
    rows: Int[Tensor, " n"],
    targets: Shaped[Tensor, " N"],
    n_drawn: int,
    *,
    seed: int,
    classes: tuple[str, ...] | None,
    purpose: str,
    groups: Int[Tensor, " N"] | None = None,
    alike: bool = False,
    times: Int[Tensor, " N"] | None = None,
) -> tuple[Int[Tensor, " rest"], Int[Tensor, " drawn"]]:
    """Split `rows` into those that stay and `n_drawn` that are drawn, both in ascending order.

    - `targets`: of the whole data set; `rows` index it.
    - `classes`: the classes' names when each class is to keep its share, else None.
    - `purpose`: what the rows are drawn for; error messages open with it.
    - `groups`: of the whole data set; rows of a group stay on one side, so that about `n_drawn` are drawn.
    - `alike`: whether the rows of a group are copies: then one of each is drawn, as rows are, and brings its copies.
    - `times`: of the whole data set, by rank: the last rows are drawn, whatever their class, since what comes later
      evaluates what came before. Rows of one time stay on one side, so that about `n_drawn` are drawn; with `groups`
      those of one group do, too.

    Raises `InputError` when nothing would stay, or a class has too few rows to be split.
    """
    if not 0 <= seed < _SEEDS:
        raise InputError(f"seed must be between 0 and {_SEEDS - 1}, got {seed}")
    n_rest = len(rows) - n_drawn
    if n_rest < 1:
        raise InputError(f"{purpose}: {n_drawn} of {len(rows)} rows leave none to train on; draw fewer")
    if n_drawn == 0:
        return rows.sort().values, rows[:0]
    if times is not None:
        return _cut(rows, times, groups, n_rest, purpose)
    if groups is not None and not alike:
        parts = max(2, round(len(rows) / n_drawn))
        rest, drawn = _grouped(rows, targets, groups, parts, seed=seed, classes=classes, purpose=purpose)[0]
        return rest.sort().values, drawn.sort().values
    labels = None
    if classes is not None:
        labels = targets[rows].numpy()
        _check_classes(labels, n_drawn, n_rest, classes, purpose)
    if groups is not None:
        rest, drawn = _draw_alike(rows, labels, groups, n_drawn, seed, purpose)
        return rest.sort().values, drawn.sort().values

    from sklearn.model_selection import train_test_split

    rest, drawn = train_test_split(
        rows.numpy(), train_size=n_rest, test_size=n_drawn, random_state=seed % 2**32, stratify=labels
    )
    return torch.from_numpy(np.sort(rest)), torch.from_numpy(np.sort(drawn))


def _cut(
    rows: Int[Tensor, " n"], times: Int[Tensor, " N"], groups: Int[Tensor, " N"] | None, n_rest: int, purpose: str
) -> tuple[Int[Tensor, " rest"], Int[Tensor, " drawn"]]:
    """Split rows between two times, as near to the first `n_rest` as there are such, and between groups."""
    of_rows, order = times[rows].sort(stable=True)
    between = cuts(of_rows)
    if not len(between):
        raise InputError(
            f"{purpose}: all {len(rows)} rows are of one time, so that none comes later; split them otherwise"
        )
    if groups is not None:
        between = cuts(of_rows, groups[rows][order])
        if not len(between):
            raise InputError(
                f"{purpose}: no time has all rows of every group on one side of it, so that later rows of a group "
                "would evaluate its earlier ones; leave time_order out to keep groups together, or leave group out"
            )
    cut = between[(between - n_rest).abs().argmin()]
    return rows[order[:cut]].sort().values, rows[order[cut:]].sort().values


def cuts(times: Int[Tensor, " n"], groups: Int[Tensor, " n"] | None = None) -> Int[Tensor, " cuts"]:
    """Return how many rows may come first, so that no time and no group has rows on both sides.

    Args:
        times: of rows in their order.
        groups: of the same rows.
    """
    between = (times[1:] != times[:-1]).nonzero().flatten() + 1
    if groups is None or not len(between):
        return between
    place = torch.arange(len(groups))
    members = groups.unique(return_inverse=True)[1]
    last = torch.zeros(len(groups), dtype=torch.int64).scatter_reduce(0, members, place, "amax", include_self=False)
    ends = last[members].cummax(0).values  # the last row of all groups that have begun
    return between[ends[between - 1] < between]


def folds(
    rows: Int[Tensor, " n"],
    targets: Shaped[Tensor, " N"],
    n: int,
    repeats: int,
    *,
    seed: int,
    classes: tuple[str, ...] | None,
    name: str,
    groups: Int[Tensor, " N"] | None = None,
    alike: bool = False,
) -> list[tuple[Int[Tensor, " rest"], Int[Tensor, " held"]]]:
    """Split `rows` n ways, `repeats` times; arguments as for `draw`."""
    if not 2 <= n <= len(rows):
        raise InputError(f"folds of '{name}': a split has 2 to {len(rows)} parts, got {n}")
    if groups is not None and not alike:
        purpose = f"folds of '{name}'"
        of_repeats = [
            _grouped(rows, targets, groups, n, seed=seed + r, classes=classes, purpose=purpose) for r in range(repeats)
        ]
        return [part for parts in of_repeats for part in parts]
    labels = targets[rows].numpy()
    from sklearn.model_selection import RepeatedKFold, RepeatedStratifiedKFold

    kind = RepeatedKFold if classes is None else RepeatedStratifiedKFold
    if classes is not None:
        present, counts = np.unique(labels, return_counts=True)
        if counts.min() < n:
            raise InputError(
                f"folds of '{name}': class '{classes[present[counts.argmin()]]}' has {counts.min()} rows, fewer than "
                f"{n} folds; use fewer folds or leave the class out"
            )
    splitter = kind(n_splits=n, n_repeats=repeats, random_state=seed % 2**32)
    if groups is not None:
        first, members = _one_of_each(rows, groups, n, f"folds of '{name}'")
        of_copies = splitter.split(first, None if classes is None else _strata(labels[first], n))
        masks = [torch.from_numpy(np.isin(members, held)) for _, held in of_copies]
        return [(rows[~held], rows[held]) for held in masks]
    parts = splitter.split(np.zeros(len(rows)), labels)
    return [(rows[torch.from_numpy(rest)], rows[torch.from_numpy(held)]) for rest, held in parts]


def _grouped(
    rows: Int[Tensor, " n"],
    targets: Shaped[Tensor, " N"],
    groups: Int[Tensor, " N"],
    parts: int,
    *,
    seed: int,
    classes: tuple[str, ...] | None,
    purpose: str,
) -> list[tuple[Int[Tensor, " rest"], Int[Tensor, " held"]]]:
    """Split `rows` into so many parts whose groups differ, classes in their shares as far as groups allow."""
    of_rows, labels = groups[rows].numpy(), targets[rows].numpy()
    n_groups = len(np.unique(of_rows))
    if n_groups < parts:
        raise InputError(f"{purpose}: {n_groups} groups can't be split {parts} ways; use rows of more groups")
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    kind = GroupKFold if classes is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        # a class of fewer rows than parts: its rows go where its groups go
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        try:
            split = kind(n_splits=parts, shuffle=True, random_state=seed % 2**32).split(
                np.zeros(len(rows)), labels, of_rows
            )
            splits = [(rows[torch.from_numpy(rest)], rows[torch.from_numpy(held)]) for rest, held in split]
        except ValueError as e:
            raise InputError(
                f"{purpose}: the groups can't be split {parts} ways ({e}); use fewer, larger sets"
            ) from None
    if any(len(held) == 0 or len(rest) == 0 for rest, held in splits):
        raise InputError(f"{purpose}: one group holds nearly all rows, so that a part stays empty; use another group")
    return splits


def _draw_alike(
    rows: Int[Tensor, " n"],
    labels: Int[np.ndarray, " n"] | None,
    groups: Int[Tensor, " N"],
    n_drawn: int,
    seed: int,
    purpose: str,
) -> tuple[Int[Tensor, " rest"], Int[Tensor, " drawn"]]:
    """Draw one row of each group as rows without copies are drawn; its copies come along."""
    first, members = _one_of_each(rows, groups, 2, purpose)
    n = min(math.ceil(n_drawn * len(first) / len(rows)), len(first) - 1)
    strata = None if labels is None else _strata(labels[first], 2)
    if strata is not None and min(n, len(first) - n) < len(np.unique(strata)):
        strata = None
    from sklearn.model_selection import train_test_split

    drawn = train_test_split(
        np.arange(len(first)), train_size=len(first) - n, test_size=n, random_state=seed % 2**32, stratify=strata
    )[1]
    held = torch.from_numpy(np.isin(members, drawn))
    return rows[~held], rows[held]


def _one_of_each(
    rows: Int[Tensor, " n"], groups: Int[Tensor, " N"], parts: int, purpose: str
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " n"]]:
    """Return the places in `rows` of one row of each group, and which of them stands for each row."""
    _, first, members = np.unique(groups[rows].numpy(), return_index=True, return_inverse=True)
    if len(first) < parts:
        raise InputError(f"{purpose}: {len(first)} different rows can't be split {parts} ways; use more different rows")
    return first, members


def _strata(labels: Int[np.ndarray, " k"], least: int) -> Int[np.ndarray, " k"]:
    """Return what keeps its share: a row's class, the commonest one for classes of too few different rows."""
    _, strata, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.where(counts[strata] < least, counts.argmax(), strata)


def _check_classes(labels: np.ndarray, n_drawn: int, n_rest: int, classes: tuple[str, ...], purpose: str) -> None:
    present, counts = np.unique(labels, return_counts=True)
    rarest = counts.argmin()
    if counts[rarest] < 2:
        raise InputError(
            f"{purpose}: class '{classes[present[rarest]]}' has only 1 row and cannot be split; "
            "add rows of that class or leave it out"
        )
    if min(n_drawn, n_rest) < len(present):
        raise InputError(
            f"{purpose}: {n_drawn} rows drawn and {n_rest} left, but each side needs at least one row "
            f"for each of {len(present)} classes; draw {len(present)} to {len(labels) - len(present)} rows"
        )
