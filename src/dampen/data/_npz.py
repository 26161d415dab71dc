"""Arrays in a `.npz` file: inputs and targets, perhaps with a test set, by the names that such files use."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from dampen.data import _checks
from dampen.data._arrays import features_of
from dampen.data._dataset import Data
from dampen.data._in_memory import read_arrays
from dampen.data._new_data import Incoming
from dampen.data._normalisation import Normalisation
from dampen.data._npz_file import opened
from dampen.data.tables._join import as_series
from dampen.errors import InputError

_INPUTS = ("x", "features", "images", "data", "inputs")
_TARGETS = ("y", "labels", "targets", "target", "label")
_TRAIN, _TEST = ("", "train", "training"), ("test", "testing")
_LONGEST = 40  # letters of an array's name in a message


def read_npz(
    path: Path, *, target: str | None, task: str | None, seed: int, test_fraction: float, normalise: bool = True
) -> Data:
    """Read inputs (`x`, `features`, `images`, `data`) and targets (`y`, `labels`, `targets`), with `train` and `test`.

    Args:
        path: the file.
        target: name of the array with the targets, where it is another.
        task: None guesses.
        seed: of the draw of test rows where there is no test set.
        test_fraction: how many are drawn then.
        normalise: as for `load`.

    Raises:
        InputError: the file is damaged, or the role of its arrays is unknown.
    """
    with opened(path) as file:
        there = file.shapes
        inputs, targets = _named(there, _INPUTS, _TRAIN, None), _named(there, _TARGETS, _TRAIN, target)
        if inputs is None or targets is None or inputs == targets:
            raise InputError(
                f"{path} holds {_listing(there)}; inputs are to be called x and targets y (or name the target)"
            )
        names = [inputs, targets]
        of_test = _named(there, _INPUTS, _TEST, None), _named(there, _TARGETS, _TEST, None)
        if of_test[0] is not None and of_test[1] is not None:
            names += [of_test[0], of_test[1]]
        arrays = file.read(names)
    alone = [] if of_test[0] is None or of_test[1] is not None else [of_test[0]]
    notes = _unused(there, [*names, *alone])
    notes += [f"'{name[:_LONGEST]}' has no targets beside it (y_test): test rows are drawn" for name in alone]
    data = read_arrays(
        arrays[0],
        _column(arrays[1]),
        test=(arrays[2], _column(arrays[3])) if len(arrays) == 4 else None,
        test_fraction=test_fraction,
        seed=seed,
        task=task,
        normalise=normalise,
        name=path.stem,
        source=str(path),
    )
    return replace(data, notes=(*notes, *data.notes))


def _unused(shapes: Mapping[str, tuple[int, ...]], used: Sequence[str]) -> list[str]:
    others = {name: shape for name, shape in shapes.items() if name not in used}
    return [f"arrays that are not used: {_listing(others)}"] if others else []


def read_incoming(
    path: Path, normalisation: Normalisation, task: str, classes: tuple[str, ...] | None
) -> Incoming | None:
    """Read rows for a trained network, `x` with `y` or without; None where the file has a test part, for `read_npz`.

    Args:
        path: the file.
        normalisation: of the network's inputs.
        task: what it predicts.
        classes: their names, or None.

    Raises:
        InputError: the file is damaged, there are no inputs, or they are no finite numbers.
    """
    raw = _to_come(path)
    if raw is None:
        return None
    inputs, targets, arrays, new_notes = raw
    features, notes = new_features(arrays[0], inputs, normalisation), list(new_notes)
    known = None
    if targets is not None:
        known, new_notes = _known(_one_each(arrays[1], targets, len(features), path), targets, classes)
        notes += new_notes
    return Incoming(path.stem, normalisation, task, classes, features, known, tuple(notes), str(path))


def new_features(array: np.ndarray, what: str, normalisation: Normalisation) -> Shaped[Tensor, "N ..."]:
    """Return rows to come as features, as `Incoming` has them.

    Raises:
        InputError: they are no finite numbers; the message names `what`.
    """
    features = features_of(array, what, normalisation.keeps_whole)
    _checks.features(features, None)
    return features


def rows_of(path: Path) -> tuple[np.ndarray, np.ndarray | None, list[str]] | None:
    """Return the inputs of rows to come, their targets, if there are any, and notes; None where there is a test part.

    Raises:
        InputError: the file is damaged, there are no inputs, or not as many targets.
    """
    raw = _to_come(path)
    if raw is None:
        return None
    _, targets, arrays, notes = raw
    return arrays[0], None if targets is None else _one_each(arrays[1], targets, len(arrays[0]), path), notes


def _to_come(path: Path) -> tuple[str, str | None, list[np.ndarray], list[str]] | None:
    """Return the names of inputs and targets, if there are any, both, and notes; None where there is a test part."""
    with opened(path) as file:
        there = file.shapes
        if _named(there, _INPUTS, _TEST, None):
            return None
        inputs, targets = _named(there, _INPUTS, _TRAIN, None), _named(there, _TARGETS, _TRAIN, None)
        if inputs is None:
            raise InputError(
                f"{path} holds {_listing(there)}; inputs are to be called x, and targets, if there are any, y"
            )
        names = [inputs] if targets is None else [inputs, targets]
        return inputs, targets, file.read(names), _unused(there, names)


def _one_each(values: np.ndarray, name: str, n: int, path: Path) -> np.ndarray:
    """Return targets as one for each row: columns of 0 and 1 are classes here as in training."""
    values = as_series(values, "target")[0].to_numpy() if values.ndim == 2 else values
    if values.shape != (n,):
        raise InputError(f"{path} holds {n} rows and {name} of shape {list(values.shape)}; give one for each row")
    return values


def _known(
    values: np.ndarray, name: str, classes: tuple[str, ...] | None
) -> tuple[Shaped[Tensor, " N"] | None, tuple[str, ...]]:
    """Return targets as `Incoming` has them, and notes on them."""
    if classes is not None:
        whole = values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.floor(values)).all()
        place = {label: i for i, label in enumerate(classes)}
        numbers = np.array(
            [place.get(str(v), -1) for v in (values.astype(np.int64) if whole else values)], dtype=np.int64
        )
        known, what = numbers >= 0, "is a class that the training rows lack"
    else:
        numbers = values.astype(np.float64) if values.dtype.kind in "biuf" else np.full(len(values), np.nan)
        known, what = np.isfinite(numbers), "is not a number"
        numbers = np.where(known, numbers, np.nan)
    n = int((~known).sum())
    notes = (f"{name} {what} in {n} row{'s' * (n != 1)}: not evaluated",) if n else ()
    return torch.from_numpy(numbers) if known.any() else None, notes


def _listing(shapes: Mapping[str, tuple[int, ...]], most: int = 10) -> str:
    listing = [f"'{name[:_LONGEST]}' {list(shape)}" for name, shape in list(shapes.items())[:most]]
    return ", ".join(listing) + f" and {len(shapes) - most} more" * (len(shapes) > most) if listing else "nothing"


def _named(
    shapes: Mapping[str, tuple[int, ...]], words: tuple[str, ...], splits: tuple[str, ...], wanted: str | None
) -> str | None:
    if wanted is not None:
        if wanted not in shapes:
            raise InputError(f"there is no array '{wanted}' (target); there are {_listing(shapes)}")
        return wanted
    spelt = {name.lower().replace("_", "").replace("-", ""): name for name in shapes}
    for word in words:
        for split in splits:
            for key in (word + split, split + word):
                if key in spelt:
                    return spelt[key]
    return None


def _column(array: np.ndarray) -> np.ndarray:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
