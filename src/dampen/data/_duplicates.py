"""Rows with equal inputs: found by a hash of each row, and kept on one side of every split."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt64
from torch import Tensor

_AT_ONCE = 1 << 22  # bytes hashed at a time, so that what is in between stays in the processor's cache
_LEAST = 20  # different rows, as many as a table needs: fewer can't be split into test rows and five folds
_FEW = 100  # different rows, if all were equally frequent, from which on splits by them are informative
_BY_CHANCE = 0.1  # share of the equal pairs above which the columns' own values explain them
_LARGEST = 0.1  # share of the rows above which copies of one row would fill half a fold
_LARGEST_JOINED = 0.25  # share of the rows above which groups that copies link can't be split any more


@dataclass(frozen=True, eq=False)
class Copies:
    """Which rows of a data set are equal.

    Args:
        first: for each row the number of the first one that equals it: its own where there is none before.
        together: groups that keep copies together, None where there is nothing to keep.
        repeat_by_themselves: whether rows are equal because columns hold few values.
    """

    first: Int[Tensor, " N"]
    together: Int[Tensor, " N"] | None
    repeat_by_themselves: bool = False

    @property
    def n(self) -> int:
        """How many rows are copies of an earlier one."""
        return int((self.first != torch.arange(len(self.first))).sum())

    def are(self, groups: Int[Tensor, " N"] | None) -> bool:
        """Return whether groups are these copies and nothing else."""
        return groups is not None and self.together is not None and groups.equal(self.together)

    @property
    def spread(self) -> int:
        """How many different rows have copies that are not kept together though others' are."""
        return 0 if self.together is None else len(self.first[self.first != self.together].unique())


def find(features: Shaped[Tensor, "N ..."]) -> Copies:
    """Find rows with equal features; a missing value equals another.

    Copies are kept together so that no row evaluates a network that was trained on it. That would be wrong where rows
    repeat by themselves: new rows then equal training rows as often as held-out ones do, and too few different rows
    would be left to split. So copies are spread like other rows where

    - fewer than 20 rows are different; or
    - the rows are worth fewer than 100 equally frequent ones (`N^2` over the sum of squared frequencies, Simpson
      1949), and columns with these values that were independent would bring about a tenth of the equal pairs or more.

    So are copies of one row that make up more than a tenth of all rows: no fold could keep its size with them.
    """
    hashes = _hashes(features)
    _, first, members, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    n = len(hashes)
    numbers = torch.from_numpy(first[members].astype(np.int64))
    if len(first) == n:
        return Copies(numbers, None)
    few = n**2 / float((counts.astype(float) ** 2).sum()) < _FEW
    by_chance = few and _by_chance(features, counts)
    if by_chance or len(first) < _LEAST:
        return Copies(numbers, None, by_chance)
    large = torch.from_numpy((counts > _LARGEST * n)[members])
    together = torch.where(large, torch.arange(n), numbers)
    return Copies(numbers, None if together.equal(torch.arange(n)) else together)


def joined(groups: Int[Tensor, " N"] | None, together: Int[Tensor, " N"] | None) -> Int[Tensor, " N"] | None:
    """Return groups that keep together what either of two groupings does.

    Groups stay as they are where copies would link so many of them that rows could no longer be split by the result.
    """
    if groups is None or together is None:
        return together if groups is None else groups
    if groups[together].equal(groups):
        return groups
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = groups.unique(return_inverse=True)[1].numpy()
    copies = together.unique(return_inverse=True)[1].numpy()
    n_own, n_nodes = int(own.max()) + 1, int(own.max()) + int(copies.max()) + 2
    links = coo_array((np.ones(len(own), dtype=np.int8), (own, n_own + copies)), shape=(n_nodes, n_nodes))
    components = connected_components(links, directed=False)[1][own].astype(np.int64)
    largest = np.bincount(components).max()
    if largest > max(_LARGEST_JOINED * len(own), np.bincount(own).max()):
        return groups
    return torch.from_numpy(components)


def _by_chance(features: Shaped[Tensor, "N ..."], counts: np.ndarray) -> bool:
    """Return whether independent columns with these values would have a tenth as many equal pairs of rows."""
    rows = features.flatten(1).numpy()
    n = len(rows)
    expected = math.log(_pairs(np.array([n])))
    for j in range(rows.shape[1]):
        equal = _pairs(np.unique(rows[:, j], return_counts=True)[1])
        if not equal:
            return False
        expected += math.log(equal / (n * (n - 1) / 2))
    return expected >= math.log(_BY_CHANCE * _pairs(counts))


def _pairs(counts: np.ndarray) -> float:
    return float((counts.astype(float) * (counts - 1) / 2).sum())


def _hashes(features: Shaped[Tensor, "N ..."]) -> UInt64[np.ndarray, " N"]:
    """Return 64 bits for each row, equal for equal rows: among a million rows two others meet with chance 3e-8.

    Each eight bytes are mixed with their place (splitmix64; Steele, Lea and Flood 2014), then summed.
    """
    rows = features.detach().flatten(1).numpy()
    width = -(-rows.shape[1] * rows.itemsize // 8)
    step = max(1, _AT_ONCE // (8 * width))
    places = _mixed(np.arange(1, width + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    hashes = np.empty(len(rows), dtype=np.uint64)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        if part.dtype.kind == "f":
            part = np.where(np.isnan(part), np.float32(np.nan), part) + np.float32(0)  # one NaN, and no -0
        padded = np.zeros((len(part), 8 * width), dtype=np.uint8)
        padded[:, : rows.shape[1] * rows.itemsize] = np.ascontiguousarray(part).view(np.uint8)
        hashes[start : start + step] = _mixed(padded.view(np.uint64) ^ places).sum(1, dtype=np.uint64)
    return hashes


def _mixed(words: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
