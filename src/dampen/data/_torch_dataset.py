"""A `torch.utils.data.Dataset` of (input, target) pairs, read once into memory."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from dampen._tensors import as_native
from dampen.data._dataset import Data
from dampen.data._in_memory import read_arrays
from dampen.errors import InputError


def is_dataset(source: object) -> bool:
    """Return whether an object is a dataset whose items have numbers."""
    return isinstance(source, Dataset)


def read_dataset(source: Any, test: Any, *, name: str | None = None, **options: Any) -> Data:
    """Read a dataset, and another one of test rows if it is given.

    Args:
        source: the dataset.
        test: that of the test rows, or None.
        name: of the data.
        options: as for `read_arrays`.

    Raises:
        InputError: it has no length, its items are no pairs, or they can't be stacked.
    """
    inputs, targets = _pairs(source)
    pairs = None if test is None else _pairs(test)
    return read_arrays(inputs, targets, test=pairs, name=name or type(source).__name__, **options)


def _native(item: Any) -> Any:
    """Return an item whose arrays torch can stack."""
    if not isinstance(item, tuple | list):
        return item
    return tuple(as_native(part) if isinstance(part, np.ndarray) else part for part in item)


def _pairs(source: Any) -> tuple[Tensor, Tensor]:
    kind = type(source).__name__
    if not isinstance(source, Dataset) or not hasattr(source, "__len__"):
        raise InputError(f"{kind} must be a torch Dataset with a length, so that its items can be read once")
    n = len(source)  # type: ignore[arg-type]
    if not n:
        raise InputError(f"{kind} is empty; give one with items")
    try:
        items = [_native(source[i]) for i in range(n)]
    except Exception as e:  # the user's own code
        raise InputError(f"{kind} fails when its items are read: {(str(e) or type(e).__name__).splitlines()[0]}") from e
    first = items[0]
    if not isinstance(first, tuple | list) or len(first) != 2:
        raise InputError(f"the items of {kind} must be (input, target) pairs, got {type(first).__name__}")
    try:
        inputs, targets = default_collate(items)
    except (TypeError, RuntimeError, ValueError) as e:
        raise InputError(
            f"the items of {kind} can't be stacked into tensors ({str(e).splitlines()[0]}): give tensors, arrays or "
            "numbers of equal shape"
        ) from e
    if not isinstance(inputs, Tensor) or not isinstance(targets, Tensor):
        raise InputError(f"the items of {kind} must be (input, target) pairs of tensors, arrays or numbers")
    return inputs, targets.flatten() if targets.numel() == len(inputs) else targets.to(torch.float32)
