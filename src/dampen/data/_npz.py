"""Arrays in a `.npz` file: inputs and targets, perhaps with a test set, by the names that such files use."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from dampen.data import _check
from dampen.data._arrays import features_of
from dampen.data._data import Data
from dampen.data._in_memory import read_arrays
from dampen.data._incoming import Incoming
from dampen.data._normalise import Normalisation
from dampen.errors import InputError

_INPUTS = ("x", "features", "images", "data", "inputs")
_TARGETS = ("y", "labels", "targets", "target", "label")
_TRAIN, _TEST = ("", "train", "training"), ("test", "testing")


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
        InputError: the file is damaged, or which array is what can't be told.
    """
    arrays = _arrays(path)
    inputs, targets = _named(arrays, _INPUTS, _TRAIN, None), _named(arrays, _TARGETS, _TRAIN, target)
    if inputs is None or targets is None or inputs == targets:
        raise InputError(f"{path} holds {_told(arrays)}; inputs are to be called x and targets y (or name the target)")
    test: Any = None
    of_test = _named(arrays, _INPUTS, _TEST, None), _named(arrays, _TARGETS, _TEST, None)
    if all(of_test):
        test = arrays[of_test[0]], arrays[of_test[1]]  # type: ignore[index]
    return read_arrays(
        _plain(arrays[inputs]),
        _column(arrays[targets]),
        test=None if test is None else (_plain(test[0]), _column(test[1])),
        test_fraction=test_fraction,
        seed=seed,
        task=task,
        normalise=normalise,
        name=path.stem,
        source=str(path),
    )


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
    arrays = _arrays(path)
    if _named(arrays, _INPUTS, _TEST, None):
        return None
    inputs, targets = _named(arrays, _INPUTS, _TRAIN, None), _named(arrays, _TARGETS, _TRAIN, None)
    if inputs is None:
        raise InputError(f"{path} holds {_told(arrays)}; inputs are to be called x, and targets, if there are any, y")
    features = features_of(_plain(arrays[inputs]), inputs, normalisation.keeps_whole)
    _check.features(features, None)
    known, notes = None, ()
    if targets is not None:
        values = _column(arrays[targets])
        if values.shape != features.shape[:1]:
            raise InputError(f"{path} holds {len(features)} rows and {targets} of shape {list(values.shape)}")
        known, notes = _known(values, targets, classes)
    return Incoming(path.stem, normalisation, task, classes, features, known, notes, str(path))


def rows_of(path: Path) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Return the inputs of rows to come and their targets, if there are any; None where the file has a test part.

    Raises:
        InputError: the file is damaged, there are no inputs, or not as many targets.
    """
    arrays = _arrays(path)
    if _named(arrays, _INPUTS, _TEST, None):
        return None
    inputs, targets = _named(arrays, _INPUTS, _TRAIN, None), _named(arrays, _TARGETS, _TRAIN, None)
    if inputs is None:
        raise InputError(f"{path} holds {_told(arrays)}; inputs are to be called x, and targets, if there are any, y")
    if targets is None:
        return arrays[inputs], None
    values = _column(arrays[targets])
    if values.shape != arrays[inputs].shape[:1]:
        n = len(arrays[inputs])
        raise InputError(f"{path} holds {n} rows and {targets} of shape {list(values.shape)}")
    return arrays[inputs], values


def _known(
    values: np.ndarray, name: str, classes: tuple[str, ...] | None
) -> tuple[Shaped[Tensor, " N"] | None, tuple[str, ...]]:
    """Return targets as `Incoming` has them, and what is to be said of them."""
    if classes is not None:
        whole = values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.floor(values)).all()
        place = {label: i for i, label in enumerate(classes)}
        found = np.array(
            [place.get(str(v), -1) for v in (values.astype(np.int64) if whole else values)], dtype=np.int64
        )
        known, what = found >= 0, "is a class that the training rows lack"
    else:
        found = values.astype(np.float64) if values.dtype.kind in "biuf" else np.full(len(values), np.nan)
        known, what = np.isfinite(found), "is no number"
        found = np.where(known, found, np.nan)
    n = int((~known).sum())
    notes = (f"{name} {what} in {n} row{'s' * (n != 1)}: not judged",) if n else ()
    return torch.from_numpy(found) if known.any() else None, notes


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}; correct the name")
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not hasattr(file, "files"):
                raise InputError(f"{path} holds one array, not inputs and targets; write both with numpy.savez")
            return {name: file[name] for name in file.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as e:
        said = "it holds Python objects" if "pickle" in str(e) else (str(e) or "damaged").splitlines()[0]
        raise InputError(f"{path} can't be read as npz: {said}; write plain arrays with numpy.savez") from None


def _told(arrays: dict[str, np.ndarray]) -> str:
    return ", ".join(f"'{name}' {list(array.shape)}" for name, array in arrays.items()) or "nothing"


def _named(
    arrays: dict[str, np.ndarray], words: tuple[str, ...], splits: tuple[str, ...], wanted: str | None
) -> str | None:
    if wanted is not None:
        if wanted not in arrays:
            raise InputError(f"there is no array '{wanted}' (target); there are {', '.join(arrays)}")
        return wanted
    spelt = {name.lower().replace("_", "").replace("-", ""): name for name in arrays}
    for word in words:
        for split in splits:
            for key in (word + split, split + word):
                if key in spelt:
                    return spelt[key]
    return None


def _plain(array: np.ndarray) -> np.ndarray:
    """Return channels first where the last axis looks like colours: what Keras saves."""
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] in (1, 3) and array.shape[1] not in (1, 3):
        return array.transpose(0, 3, 1, 2)
    return array


def _column(array: np.ndarray) -> np.ndarray:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
