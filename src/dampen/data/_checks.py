"""What must hold for a `Data`, each rule with the one line that a user sees when it is broken."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor

from dampen._tensors import check_size
from dampen.errors import InputError

_WEIGHTS = 1e-18, 1e18  # of the largest weight, whose squares float32 holds too
_FEATURE_TYPES = (torch.uint8, torch.float32, torch.int64)


def features(features: Shaped[Tensor, "..."], names: tuple[str, ...] | None, *, missing: bool = False) -> None:
    """Require rows of finite numbers (NaN too, if some may be missing), one a row or more, a name for each column."""
    shape = tuple(features.shape)
    if len(shape) < 2 or math.prod(shape[1:]) == 0:
        raise InputError(f"features must have shape [rows, columns] or [rows, ...], got {list(shape)}")
    if features.dtype not in _FEATURE_TYPES:
        raise InputError(
            f"features must be float32 or uint8, or int64 to embed, got {features.dtype}; from_arrays converts"
        )
    if names is not None and len(names) != shape[1]:
        raise InputError(f"{len(names)} feature names for {shape[1]} columns; give one name a column")
    if not missing:
        _finite(features, "features", names)
    elif features.isinf().any():
        raise InputError("features hold infinite values; give them as missing (NaN) or drop these rows")


def targets(targets: Shaped[Tensor, "..."], task: str, classes: tuple[str, ...] | None, *, n_rows: int) -> None:
    """Require one target a row: a class number below the number of classes, or a finite value."""
    if targets.ndim != 1:
        raise InputError(f"targets must have one value a row, got shape {list(targets.shape)}")
    if len(targets) != n_rows:
        raise InputError(f"{n_rows} rows of features but {len(targets)} targets; give one target a row")
    if task == "classification":
        _labels(targets, classes)
    elif task == "regression":
        if targets.dtype != torch.float32 or classes is not None:
            raise InputError(
                f"regression needs float32 targets and no classes, got {targets.dtype}; from_arrays converts"
            )
        _finite(targets, "targets", None)
    else:
        raise InputError(f"task must be 'classification' or 'regression', got {task!r}")


def _labels(labels: Tensor, classes: tuple[str, ...] | None) -> None:
    if labels.dtype != torch.int64:
        raise InputError(f"class numbers must be int64, got {labels.dtype}; from_arrays converts")
    if classes is None or len(classes) < 2:
        raise InputError(f"classification needs at least two classes, got {classes}")
    wrong = (labels < 0) | (labels >= len(classes))
    if wrong.any():
        row = _first(wrong)
        raise InputError(
            f"{int(wrong.sum())} labels are outside 0..{len(classes) - 1}, "
            f"the first is {int(labels[row])} in row {row}; number the {len(classes)} classes from 0"
        )


def rows(sets: dict[str, Int[Tensor, "..."]], *, n_rows: int) -> None:
    """Require row numbers that exist, none used twice, and something to train on."""
    for name, numbers in sets.items():
        if numbers.ndim != 1 or numbers.dtype != torch.int64:
            raise InputError(f"{name} must be a list of int64 row numbers, got {numbers.dtype}")
        if len(numbers) and (int(numbers.min()) < 0 or int(numbers.max()) >= n_rows):
            raise InputError(f"{name} must lie in 0..{n_rows - 1}, got {int(numbers.min())}..{int(numbers.max())}")
    if not len(sets["train_rows"]):
        raise InputError("the training set is empty; give at least one training row")
    uses = torch.bincount(torch.cat(list(sets.values())), minlength=n_rows)
    if (uses > 1).any():
        raise InputError(
            f"row {_first(uses > 1)} is used more than once among {', '.join(sets)}; a row belongs to one of them"
        )


def scaling(kind: str | None, pixel_max: float) -> None:
    """Require a known way to scale and a positive pixel range."""
    if kind not in ("pixels", "standardise", None):
        raise InputError(f"scaling must be 'pixels', 'standardise' or None, got {kind!r}")
    if not (pixel_max > 0 and math.isfinite(pixel_max)):
        raise InputError(f"pixel_max must be larger than 0, got {pixel_max:g}")


def as_weights(values: Float[np.ndarray, " N"], what: str) -> Float32[np.ndarray, " N"]:
    """Return weights in float32; `what` opens the message about those that it can't hold."""
    known = values[np.isfinite(values)]
    most = float(np.abs(known).max(initial=0.0))
    if most > _WEIGHTS[1] or 0 < most < _WEIGHTS[0]:
        raise InputError(
            f"{what} must be at most {_WEIGHTS[1]:g} and not all below {_WEIGHTS[0]:g}, which float32 can hold; the "
            f"largest is {most:g}: divide all by it, only their ratios count"
        )
    return values.astype(np.float32)


def weights(weights: Tensor | None, train_rows: Tensor, *, n_rows: int) -> None:
    """Require a finite weight, 0 or larger, for each row, and a training row that counts."""
    if weights is None:
        return
    if weights.shape != (n_rows,) or weights.dtype != torch.float32:
        raise InputError(f"weights must be {n_rows} float32 numbers, got {weights.dtype} {list(weights.shape)}")
    if not (weights.isfinite() & (weights >= 0)).all():
        raise InputError("weights must be finite numbers, 0 or larger; correct or drop the rows where they are not")
    if not weights[train_rows].any():
        raise InputError("every training row has weight 0; give some of them a weight")


def groups(groups: Tensor | None, *, n_rows: int, what: str = "groups") -> None:
    """Require a group's number, or a time's, for each row."""
    if groups is not None and (groups.shape != (n_rows,) or groups.dtype != torch.int64):
        raise InputError(f"{what} must be {n_rows} int64 numbers, got {groups.dtype} {list(groups.shape)}")


def _finite(values: Tensor, what: str, names: tuple[str, ...] | None) -> None:
    if not values.is_floating_point() or torch.isfinite(values.sum()):  # a finite sum has finite terms
        check_size(values, what)
        return
    wrong = ~torch.isfinite(values)
    if not wrong.any():  # the sum overflowed, its terms did not
        check_size(values, what)
        return
    row = _first(wrong.flatten(1).any(dim=1) if values.ndim > 1 else wrong)
    column = f", column '{names[_first(wrong[row])]}'" if names is not None else ""
    raise InputError(
        f"{what} hold {int(wrong.sum())} values that are NaN or infinite in float32, "
        f"the first in row {row}{column}; fill them in or drop these rows"
    )


def _first(mask: Tensor) -> int:
    return int(mask.int().argmax())
