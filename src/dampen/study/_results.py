"""What a report needs of a finished study's folder: what was found, all curves, what each rung of the search found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dampen.errors import InputError
from dampen.study import _documents
from dampen.study._storage import Folder

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("length", "epoch", "seed", "setting")  # columns of curves that count
_WORDS = ("phase", "run")


@dataclass(frozen=True)
class Results:
    """A finished study's results, checked.

    Args:
        document: as `Study.document` tells them.
        frame: all curves.
        rungs: of the search; none for a comparison of one length.
    """

    document: dict[str, Any]
    frame: "pd.DataFrame"
    rungs: list[dict[str, Any]]


def read_results(folder: str | Path) -> Results:
    """Read them.

    Raises:
        InputError: there is no finished study, or a file is damaged.
    """
    place = Folder(Path(folder))
    document = finished(folder)
    if "length" not in document or "lengths" not in document["plan"]:
        raise InputError(f"{folder} holds a study of an older version, which has no report: make it anew")
    frame = place.read_frame("curves.parquet")
    _check_curves(frame, place.path / "curves.parquet")
    return Results(document, frame, _documents.progress(place, document["metric"]))


def finished(folder: str | Path) -> dict[str, Any]:
    """Return what a finished study found.

    Raises:
        InputError: there is none, or its document is damaged.
    """
    document = _documents.finished(Folder(Path(folder)))
    if document is None:
        raise InputError(f"{folder} holds no finished study: there is no study.json; dampen tune --resume finishes one")
    return document


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
        raise InputError(f"{file} is damaged: {', '.join(wrong)} are no numbers")
    if frame[[*_NUMBERS]].isna().to_numpy().any():
        raise InputError(f"{file} is damaged: rows lack an epoch, a length, a seed or a setting")
    if frame.duplicated(["run", "setting", "seed", "epoch"]).any():
        raise InputError(f"{file} is damaged: an epoch of a training is there twice")
