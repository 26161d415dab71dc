"""A data set in a folder of four IDX files: images and labels, for training and for test."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from dampen.data._dataset import Data
from dampen.data._leakage import noted
from dampen.data.images._idx import read_idx
from dampen.errors import InputError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_DIMENSIONS = (3, 1, 3, 1)


def find_files(folder: Path) -> dict[str, Path]:
    """Find those of `FILES` that `folder` has, by name: with or without `.gz`, `-idx` or `.idx`."""
    files = {}
    for name in FILES:
        spellings = (name, name.replace("-idx", ".idx"))
        paths = (folder / f"{spelling}{suffix}" for spelling in spellings for suffix in ("", ".gz"))
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            files[name] = path
    return files


def complete_files(folder: Path) -> dict[str, Path]:
    """Find all four files of `folder`; raises `InputError` naming those it lacks."""
    files = find_files(folder)
    missing = [name for name in FILES if name not in files]
    if missing:
        raise InputError(f"folder {folder} lacks {', '.join(missing)} (each may end in .gz); add what is missing")
    return files


def read_folder(
    folder: Path,
    *,
    name: str | None = None,
    classes: tuple[str, ...] | None = None,
    source: str | None = None,
) -> Data:
    """Read the set in `folder`: training rows first, then the test set, in the files' order.

    - `name`: of the set; the folder's own when None.
    - `classes`: the classes' names; when None they are called 0 to the largest training label.

    Raises `InputError` when a file is missing or damaged, when images and labels differ in number or
    the two sets' images in size, and for a label that is no class.
    """
    files = complete_files(folder)
    with ThreadPoolExecutor(len(FILES)) as threads:  # zlib lets other threads run meanwhile
        arrays = list(threads.map(read_idx, (files[key] for key in FILES), _DIMENSIONS))
    train_images, train_labels, test_images, test_labels = arrays
    for images, labels, key in ((train_images, train_labels, FILES[1]), (test_images, test_labels, FILES[3])):
        if len(images) != len(labels):
            raise InputError(f"{files[key]} holds {len(labels)} labels for {len(images)} images")
    if train_images.shape[1:] != test_images.shape[1:]:
        sizes = [f"{images.shape[1]}x{images.shape[2]}" for images in (train_images, test_images)]
        raise InputError(f"folder {folder} has training images of {sizes[0]} pixels but test images of {sizes[1]}")
    if not len(train_labels):
        raise InputError(f"{files[FILES[1]]} holds no rows; a training set needs at least one")
    origin = "that the set has"
    if classes is None:
        origin = "that the training labels span"
        classes = tuple(str(label) for label in range(int(train_labels.max()) + 1))
    for labels, key in ((train_labels, FILES[1]), (test_labels, FILES[3])):
        _check_labels(labels, len(classes), origin, files[key])
    n_train, n_rows = len(train_labels), len(train_labels) + len(test_labels)
    data = Data(
        name=name if name is not None else folder.resolve().name,
        task="classification",
        features=torch.from_numpy(np.concatenate([train_images, test_images])).unsqueeze(1),
        targets=torch.from_numpy(np.concatenate([train_labels, test_labels]).astype(np.int64)),
        train_rows=torch.arange(n_train),
        test_rows=torch.arange(n_train, n_rows),
        classes=classes,
        scaling="pixels",
        source=source if source is not None else str(folder),
    )
    return noted(data.together())


def _check_labels(labels: np.ndarray, n_classes: int, origin: str, path: Path) -> None:
    wrong = labels >= n_classes
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{path} has the label {labels[row]} in row {row}, "
            f"outside the classes 0..{n_classes - 1} {origin}; correct the file"
        )
