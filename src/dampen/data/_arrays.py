"""From arrays in memory to `Data`."""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from dampen._tensors import as_native, check_dense
from dampen.data import _duplicates, _splits, _target
from dampen.data._checks import as_weights
from dampen.data._dataset import Data, Scaling
from dampen.data._leakage import noted
from dampen.data.tables._join import as_series
from dampen.data.tables._values import as_text
from dampen.errors import InputError

_CHANNELS = (1, 3, 4)  # of an image: grey, RGB, RGBA


def from_arrays(
    features: Any,
    targets: Any,
    *,
    test: tuple[Any, Any] | None = None,
    test_fraction: float = 0.25,
    seed: int = 0,
    task: str | None = None,
    classes: tuple[str, ...] | None = None,
    feature_names: tuple[str, ...] | None = None,
    scaling: Scaling | Literal["guess"] | None = "guess",
    pixel_max: float = 255.0,
    weights: Any = None,
    groups: Any = None,
    keep_whole: bool = False,
    name: str = "arrays",
    source: str = "memory",
) -> Data:
    """Make a `Data` of arrays: NumPy's, PyTorch's, or what `numpy.asarray` takes. They are copied.

    - `features`: `[N, D]`, or `[N, ...]`. Bytes of three or four dimensions, `[N, H, W]`, `[N, C, H, W]` or
      `[N, H, W, C]`, are images and stay bytes, channels first; everything else becomes float32.
    - `targets`: `[N]` or `[N, 1]`: classes (any whole numbers, names or truth values, in their order) or values; or
      `[N, C]` with a 1 for the class and 0 elsewhere.
    - `test`: `(features, targets)` of the test set; when None, `test_fraction` of the rows is drawn
      from `seed`, each class in its share, copies of a row on one side.
    - `task`: when None, names, truth values and few distinct whole numbers mean classification, as in a table; for
      features of three dimensions or more any whole numbers do.
    - `classes`: the classes' names in the order of their numbers, which then start at 0.
    - `weights`, `groups`: `[N]`, for rows without a test set of their own: how much each counts; rows with equal
      entries stay together in every split.
    - `keep_whole`: whether whole numbers stay int64, for a network that embeds them; then nothing is scaled.
    - `scaling`: see `Data`; guessed as `"pixels"` for images and `"standardise"` for the rest.

    Rows without a target are left out, with a note. Raises `InputError` for what `Data` refuses.

    >>> import numpy as np
    >>> from_arrays(np.eye(8), ["cat", "dog"] * 4).classes
    ('cat', 'dog')
    """
    array = array_of(features, "features")
    raw, notes = features_of(array, "features", keep_whole), _layout(array)
    labels, label_notes = _labels(targets, "targets")
    notes += label_notes
    parts = [len(raw), 0]
    if test is not None:
        test_raw, test_labels = features_of(test[0], "test features", keep_whole), _labels(test[1], "test targets")[0]
        _check_test(raw, test_raw, labels, test_labels)
        parts = [len(raw), len(test_raw)]
        raw, labels = torch.cat([raw, test_raw]), np.concatenate([labels, test_labels])
    if len(labels) != len(raw):
        raise InputError(f"targets must be one value for each of {len(raw)} rows, got shape {list(labels.shape)}")
    if classes is not None and task != "regression":
        task, (numbers, classes) = "classification", _numbered(labels, tuple(classes))
    else:
        if task is None and labels.dtype.kind in "iu" and raw.ndim > 2:
            task = "classification"
        read = _target.read(_series(labels), task, "targets", least=1)
        task, classes, notes = (
            read.task,
            read.classes,
            [*notes, *(n for n in read.notes if labels.dtype.kind not in "iu")],
        )
        numbers = torch.from_numpy(read.numbers)
        if not read.kept.all():
            kept = torch.from_numpy(np.flatnonzero(read.kept))
            raw = raw[kept]
            weights, groups = (
                None if v is None else _one_each(array_of(v, what), what, len(read.kept))[read.kept]
                for v, what in ((weights, "weights"), (groups, "groups"))
            )
            parts = [int(read.kept[: parts[0]].sum()), int(read.kept[parts[0] :].sum())]
    train_rows, test_rows = torch.arange(sum(parts)).split(parts)
    of_rows, of_groups = _roles(weights, groups, parts)
    copies = _duplicates.find(raw)
    of_groups = _duplicates.joined(of_groups, copies.together)
    if test is None:
        n_test = _splits.count(test_fraction, len(raw), "test_fraction", zero_allowed=True)
        purpose = f"test rows of '{name}'"
        train_rows, test_rows = _splits.draw(
            *(train_rows, numbers, n_test),
            seed=seed,
            classes=classes,
            purpose=purpose,
            groups=of_groups,
            alike=copies.are(of_groups),
        )
    if scaling == "guess":
        scaling = "pixels" if raw.dtype == torch.uint8 else "standardise"
    data = Data(
        name=name,
        task=task,  # type: ignore[arg-type]
        features=raw,
        targets=numbers,
        train_rows=train_rows,
        test_rows=test_rows,
        classes=classes,
        feature_names=feature_names,
        scaling=scaling,
        pixel_max=pixel_max,
        weights=of_rows,
        groups=of_groups,
        notes=tuple(notes),
        source=source,
    )
    return noted(data)


def _labels(targets: Any, what: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return targets as one array `[N]`, and notes on them."""
    series, notes = as_series(targets, "target")
    array = series.to_numpy()
    if array.dtype.kind not in "biufUOT":
        raise InputError(f"{what} must be numbers or names, got an array of type {array.dtype}; encode them first")
    return array, notes


def _series(labels: np.ndarray) -> Any:
    import pandas as pd

    from dampen.data.tables._values import typed

    return typed(pd.Series(labels))


def _roles(weights: Any, groups: Any, parts: list[int]) -> tuple[Tensor | None, Tensor | None]:
    """Return weights as float32 and groups as numbers."""
    if weights is None and groups is None:
        return None, None
    if parts[1]:
        raise InputError("weights and groups are for rows without a test set of their own; leave test out")
    of_rows = of_groups = None
    if weights is not None:
        numbers = array_of(weights, "weights")
        if numbers.dtype.kind not in "biuf":
            raise InputError(f"weights must be numbers, got an array of type {numbers.dtype}")
        of_rows = torch.from_numpy(as_weights(numbers.astype(np.float64), "weights"))
    if groups is not None:
        of_groups = torch.from_numpy(np.unique(array_of(groups, "groups"), return_inverse=True)[1].astype(np.int64))
    for name, values in (("weights", of_rows), ("groups", of_groups)):
        if values is not None:
            _one_each(values, name, parts[0])
    return of_rows, of_groups


def _one_each(values: Any, name: str, n: int) -> Any:
    """Return values of which there must be one for each of n rows.

    Raises:
        InputError: there are not.
    """
    if tuple(values.shape) != (n,):
        raise InputError(f"{name} must be one value for each of {n} rows, got shape {list(values.shape)}")
    return values


def array_of(values: Any, what: str, *, objects: bool = False) -> np.ndarray:
    """Return numbers or strings as an array; with `objects` also what else a table may hold.

    Raises:
        InputError: rows of different length, or something else.
    """
    if isinstance(values, Tensor):
        check_dense(values, what)
        values = values.detach().cpu()
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        array = np.asanyarray(values)
    except ValueError as error:  # rows of different length
        raise InputError(f"{what} can't be made an array; give every row the same shape") from error
    if array.dtype.kind == "b" and isinstance(array, np.ma.MaskedArray):
        array = array.astype(np.float64)  # inputs are numbers: a masked one is NaN
    array = np.asarray(as_native(array))
    if array.dtype.kind == "O" and not objects and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)  # what pandas calls a column of strings
    if array.dtype.kind not in ("biufUO" if objects else "biufU"):
        raise InputError(f"{what} must be numbers, got an array of type {array.dtype}; encode them first")
    return array


def features_of(values: Any, what: str, keep_whole: bool = False) -> Shaped[Tensor, "N ..."]:
    """Return features as `Data` holds them: images of bytes `[N, C, H, W]`, everything else float32.

    With `keep_whole` whole numbers are int64.

    Raises:
        InputError: no numbers, or no rows; the message names `what`.
    """
    array = array_of(values, what)
    if array.dtype.kind == "U":
        raise InputError(f"{what} must be numbers, got strings; encode them first")
    if array.ndim < 2 or 0 in array.shape[1:]:
        raise InputError(f"{what} must have shape [rows, columns] or [rows, ...], got {list(array.shape)}")
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        images = torch.from_numpy((np.moveaxis(array, -1, 1) if _channels_last(array) else array).copy(order="C"))
        return images.unsqueeze(1) if images.ndim == 3 else images
    if keep_whole and array.dtype.kind in "iu":
        return torch.from_numpy(array.astype(np.int64))
    return torch.from_numpy(_float32(array))


def _channels_last(array: np.ndarray) -> bool:
    """Return whether the last axis of `[N, ...]` looks like colours, and the first one does not: what Keras saves."""
    return array.ndim == 4 and array.shape[-1] in _CHANNELS and array.shape[1] not in _CHANNELS


def _layout(array: np.ndarray) -> list[str]:
    """Return notes on the axes of images, or of what looks like some."""
    shape = list(array.shape[1:])
    height, width = shape[:2] if len(shape) > 1 else (0, 0)
    if array.dtype == np.uint8:
        if _channels_last(array):
            return [f"bytes of shape {shape} are read as images with channels last: [{shape[2]}, {height}, {width}]"]
        return [f"bytes of shape {shape} are read as grey images: [1, {height}, {width}]"] if len(shape) == 2 else []
    if _channels_last(array):
        return [
            f"inputs of shape {shape} are read as {height} channels of {width}x{shape[2]}: if they are images with "
            f"channels last, give [rows, {shape[2]}, {height}, {width}]"
        ]
    if len(shape) == 2 and height == width > 1 and array.dtype.kind == "f" and array.size:
        least, most = float(array.min()), float(array.max())
        if least >= 0 and (most <= 1 or (most <= 255 and (array == np.floor(array)).all())):
            return [f"inputs of shape {shape} stay so: if they are grey images, give [rows, 1, {height}, {width}]"]
    return []


def _float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows to infinity, Data refuses
        return array.astype(np.float32, order="C")


def _check_test(raw: Tensor, test_raw: Tensor, labels: np.ndarray, test_labels: np.ndarray) -> None:
    if raw.shape[1:] != test_raw.shape[1:] or raw.dtype != test_raw.dtype:
        raise InputError(
            f"training and test features differ: {raw.dtype} {list(raw.shape)} and "
            f"{test_raw.dtype} {list(test_raw.shape)}; give them the same columns and type"
        )
    if labels.shape != raw.shape[:1] or test_labels.shape != test_raw.shape[:1]:
        raise InputError(
            f"targets must be one value a row, got shape {list(labels.shape)} for {len(raw)} training rows "
            f"and {list(test_labels.shape)} for {len(test_raw)} test rows"
        )
    if (labels.dtype.kind in "UOT") != (test_labels.dtype.kind in "UOT"):
        raise InputError("training and test targets differ: one holds strings, the other numbers; encode both alike")


def _numbered(labels: np.ndarray, classes: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Return class numbers where the classes' names are given: the labels are these names, or their numbers."""
    if labels.dtype.kind in "UOT":
        text = as_text(_series(labels))
        unknown = sorted(set(map(str, text)) - set(classes))
        if unknown:
            raise InputError(f"targets hold '{unknown[0]}', which is not among classes {', '.join(classes)}")
        place = {label: i for i, label in enumerate(classes)}
        return torch.from_numpy(text.map(place).to_numpy(np.int64, copy=True)), classes
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
        raise InputError("targets of a classification must be whole numbers or names; or pass task='regression'")
    numbers = labels.astype(np.int64)
    if numbers.min(initial=0) < 0:
        raise InputError(f"class {numbers.min()} in row {numbers.argmin()} is negative; number the classes from 0")
    return torch.from_numpy(numbers), classes
