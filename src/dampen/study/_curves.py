"""The learning curves in a finished study's folder, checked."""

from pathlib import Path
from typing import TYPE_CHECKING

from dampen.errors import InputError
from dampen.study._storage import Folder

if TYPE_CHECKING:
    import pandas as pd

_FILE = "curves.parquet"
_NUMBERS = ("length", "epoch", "seed", "setting")  # columns of curves that count
_WORDS = ("phase", "run")


def read_curves(folder: Folder) -> "pd.DataFrame":
    """Return them.

    Raises:
        InputError: they are gone or damaged.
    """
    frame = folder.read_frame(_FILE)
    _check_curves(frame, folder.path / _FILE)
    return frame


def _check_curves(frame: "pd.DataFrame", file: Path) -> None:
    """Make sure that curves have the columns by which they are found, of numbers where numbers are drawn.

    Raises:
        InputError: they have not.
    """
    import pandas as pd

    lacking = [name for name in (*_NUMBERS, *_WORDS) if name not in frame]
    if lacking:
        raise InputError(f"{file} is damaged: it lacks {', '.join(lacking)}")
    losses = [name for name in frame if str(name).endswith("_loss")]
    wrong = [str(n) for n in (*_NUMBERS, *losses) if not pd.api.types.is_numeric_dtype(frame[n].dtype)]
    if wrong:
        raise InputError(f"{file} is damaged: {', '.join(wrong)} are not numbers")
    if frame[[*_NUMBERS]].isna().to_numpy().any():
        raise InputError(f"{file} is damaged: rows lack an epoch, a length, a seed or a setting")
    if frame.duplicated(["run", "setting", "seed", "epoch"]).any():
        raise InputError(f"{file} is damaged: an epoch of a training is there twice")
