"""Rows on their way to the workers: arrays, so that all processes of a node share one copy of them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dampen.engine import Sets, Table


@dataclass(frozen=True)
class Packed:
    """The rows of each seed, every table and every array once.

    Args:
        tables: inputs and targets of each.
        sets: of each seed the tables by split, the task, the number of outputs, whether rows are weighted, and which
            inputs are codes.
        of_seeds: which of the sets each seed has.
    """

    tables: list[tuple[tuple[np.ndarray, ...], np.ndarray]]
    sets: list[tuple[dict[str, int], str, int, bool, tuple[Any, ...]]]
    of_seeds: list[int]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in {id(a): a for inputs, targets in self.tables for a in (*inputs, targets)}.values())


def packed(sets: Sequence[Sets]) -> Packed:
    """Return the rows of each seed as arrays."""
    known: dict[Any, np.ndarray] = {}

    def array(t: Tensor) -> np.ndarray:
        key = (t.data_ptr(), tuple(t.shape), t.stride(), t.dtype)
        return known.setdefault(key, np.ascontiguousarray(t.detach().cpu().numpy()))

    tables = {id(table): table for one in sets for table in one.tables.values()}
    number = {key: i for i, key in enumerate(tables)}
    kinds = {id(one): one for one in sets}
    place = {key: i for i, key in enumerate(kinds)}
    return Packed(
        [(tuple(array(t) for t in table.inputs), array(table.targets)) for table in tables.values()],
        [
            (
                {split: number[id(table)] for split, table in one.tables.items()},
                *(one.task, one.outputs, one.weighted, one.codes),
            )
            for one in kinds.values()
        ],
        [place[id(one)] for one in sets],
    )


def unpacked(rows: Packed) -> list[Sets]:
    """Return what `packed` was given; its tensors share the arrays' memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)  # nobody writes to rows
        tables = [Table(tuple(map(torch.from_numpy, inputs)), torch.from_numpy(y)) for inputs, y in rows.tables]
    kinds = [
        Sets({split: tables[i] for split, i in places.items()}, task, outputs, weighted, codes)
        for places, task, outputs, weighted, codes in rows.sets
    ]
    return [kinds[i] for i in rows.of_seeds]
