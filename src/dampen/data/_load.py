"""`load`: a data set by name or from a folder."""

import os
from pathlib import Path

from dampen.data._bundled import BUNDLED, load_bundled
from dampen.data._data import Data
from dampen.data._find import existing, find
from dampen.data._idx_folder import read_folder
from dampen.data._published import PUBLISHED
from dampen.errors import InputError

NAMES = (*BUNDLED, *PUBLISHED)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    test_fraction: float = 0.25,
    progress: bool = False,
) -> Data:
    """Load a data set by name (one of `NAMES`) or from a folder with the four IDX files of MNIST.

    A string that is a name means that set; write `./digits` for a folder of that name.

    - `data_dir`: where `fashion-mnist` and `mnist` are looked for first; then in the folder that the
      environment variable `DAMPEN_DATA` names, then in the user's cache, then at their publisher.
    - `seed`, `test_fraction`: draw the test rows of scikit-learn's sets, each class in its share. IDX
      sets have their own test set and keep their order.
    - `progress`: tell on stderr where the data comes from, with a bar when that is a terminal.

    Raises `InputError` for an unknown name, a folder without the four files, damaged files, and a
    download that fails.

    >>> load("digits").inputs
    (1, 8, 8)
    """
    if data_dir is not None:
        data_dir = existing(Path(data_dir), "data_dir")
    if name_or_path in BUNDLED:
        return load_bundled(str(name_or_path), seed=seed, test_fraction=test_fraction)
    if name_or_path in PUBLISHED:
        name = str(name_or_path)
        folder, source = find(name, data_dir, progress=progress)
        return read_folder(folder, name=name, classes=PUBLISHED[name].classes, source=source)
    folder = Path(name_or_path)
    if not os.path.isdir(folder):
        raise InputError(
            f"{str(name_or_path)!r} is neither a data set nor a folder; "
            f"the sets are {', '.join(NAMES)}, and a folder with the four IDX files works too"
        )
    return read_folder(folder)
