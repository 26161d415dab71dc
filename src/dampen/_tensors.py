"""Tensors and arrays from outside: what they must be before anything computes with them."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dampen.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 1e30  # of an input: far below float32's largest number, so that sums of squares stay finite


def as_native(array: np.ndarray) -> np.ndarray:
    """Return an array in the machine's byte order, which torch needs, with a masked array's masked values as missing.

    Missing is NaN among numbers, which are float64 then, and None among anything else, truth values too.

    >>> as_native(np.ma.masked_array([1, 2], mask=[False, True]))
    array([ 1., nan])
    """
    if isinstance(array, np.ma.MaskedArray):
        mask, array = np.ma.getmaskarray(array), np.ma.getdata(array)
        if mask.any():
            missing: Any = np.nan if array.dtype.kind in "iuf" else None
            array = array.astype(np.float64 if array.dtype.kind in "iuf" else object)
            array[mask] = missing
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_dense(t: "Tensor", what: str) -> None:
    """Make sure that a tensor holds a plain number at each place.

    Raises:
        InputError: it is sparse or otherwise packed, holds no numbers (torch's meta device), or numbers of a kind that
            is not computed with, such as float8 or quantised ones; the message names `what`.
    """
    import torch

    if t.layout is not torch.strided or t.is_nested:
        layout = "nested" if t.is_nested else str(t.layout).removeprefix("torch.")
        raise InputError(f"{what} must be dense, got a tensor of layout {layout}: to_dense() makes it so")
    if t.is_meta:
        raise InputError(f"{what} must hold numbers, got a tensor on the meta device, which has none")
    kind = str(t.dtype).removeprefix("torch.")
    if t.is_quantized or kind.startswith(("float8", "float4", "q", "bits", "complex")) or t.is_complex():
        raise InputError(f"{what} must be real numbers, got {kind}: convert them with .float() or the like")


def check_size(t: "Tensor", what: str) -> None:
    """Make sure that numbers are not so large that computing with them gives what is none.

    Raises:
        InputError: one is; the message names `what`.
    """
    if t.is_floating_point() and t.numel():
        least, most = t.aminmax()
        if max(-float(least), float(most)) > LARGEST * (1 + 1e-6):  # float32's nearest number to it is a bit larger
            raise InputError(
                f"{what}: {max(-float(least), float(most)):.2g} is among the numbers, and those beyond {LARGEST:g} "
                "become infinite or NaN in float32 arithmetic: use another unit"
            )


def describe_input(given: object) -> str:
    """Return what was given in place of tensors or data, in a few words."""
    return f"the path {os.fspath(given)!r}" if isinstance(given, str | os.PathLike) else type(given).__name__


def loaded_by(given: object) -> str:
    """Return the call that makes a data set of what was given; empty where there is none.

    >>> loaded_by("houses.csv")
    "dampen.load('houses.csv')"
    """
    if isinstance(given, str | os.PathLike):
        return f"dampen.load({os.fspath(given)!r})"
    if is_frame(given):
        return "dampen.load(frame, target=...)"
    if hasattr(given, "dataset"):
        return "dampen.load(loader.dataset)"
    if isinstance(given, tuple | list | Mapping) or hasattr(given, "shape"):
        return "dampen.load(x, target=y)"
    return "dampen.load(dataset)" if hasattr(given, "__getitem__") and hasattr(given, "__len__") else ""


def is_frame(given: object) -> bool:
    """Return whether something is a table with named columns, of pandas or of another library."""
    return hasattr(given, "columns") and (hasattr(given, "iloc") or hasattr(given, "to_pandas"))
