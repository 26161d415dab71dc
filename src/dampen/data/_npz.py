"""Arrays in a `.npz` file: inputs and targets, perhaps with a test set, by the names that such files use."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from dampen.data._arrays import from_arrays
from dampen.data._data import Data
from dampen.errors import InputError

_INPUTS = ("x", "features", "images", "data", "inputs")
_TARGETS = ("y", "labels", "targets", "target", "label")
_TRAIN, _TEST = ("", "train", "training"), ("test", "testing")


def read_npz(path: Path, *, target: str | None, task: str | None, seed: int, test_fraction: float) -> Data:
    """Read inputs (`x`, `features`, `images`, `data`) and targets (`y`, `labels`, `targets`), with `train` and `test`.

    Args:
        path: the file.
        target: name of the array with the targets, where it is another.
        task: None guesses.
        seed: of the draw of test rows where there is no test set.
        test_fraction: how many are drawn then.

    Raises:
        InputError: the file is damaged, or which array is what can't be told.
    """
    if not os.path.isfile(path):
        raise InputError(f"there is no file {path}; correct the name")
    try:
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if not hasattr(file, "files"):
                raise InputError(f"{path} holds one array, not inputs and targets; write both with numpy.savez")
            arrays = {name: file[name] for name in file.files}
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as e:
        said = "it holds Python objects" if "pickle" in str(e) else (str(e) or "damaged").splitlines()[0]
        raise InputError(f"{path} can't be read as npz: {said}; write plain arrays with numpy.savez") from None
    inputs, targets = _named(arrays, _INPUTS, _TRAIN, None), _named(arrays, _TARGETS, _TRAIN, target)
    if inputs is None or targets is None or inputs == targets:
        held = ", ".join(f"'{name}' {list(array.shape)}" for name, array in arrays.items()) or "nothing"
        raise InputError(f"{path} holds {held}; inputs are to be called x and targets y (or name the target)")
    test: Any = None
    of_test = _named(arrays, _INPUTS, _TEST, None), _named(arrays, _TARGETS, _TEST, None)
    if all(of_test):
        test = arrays[of_test[0]], arrays[of_test[1]]  # type: ignore[index]
    return from_arrays(
        _plain(arrays[inputs]),
        _column(arrays[targets]),
        test=None if test is None else (_plain(test[0]), _column(test[1])),
        test_fraction=test_fraction,
        seed=seed,
        task=task,
        name=path.stem,
        source=str(path),
    )


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
