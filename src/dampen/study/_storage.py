"""A study's folder: results as JSON and Parquet, weights as safetensors, each file whole or not there."""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dampen import _io, _schema
from dampen.data import Data, read_parquet
from dampen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")
_PLACES = ("checkpoints", "curves")  # folders within a study's
POPULATION = "population.safetensors"  # what a checkpoint's folder has
RUN = r"[a-z]{1,40}(-[a-z0-9]{1,40}){0,4}"  # names of trainings, under which checkpoints and curves are kept
_MOST_ROWS, _MOST_COLUMNS = 20_000_000, 1000


def fingerprint(data: Data) -> str:
    """Return a hash of a data set's rows and of their split."""
    digest = hashlib.blake2b(digest_size=16)
    tensors = [data.features, data.targets, data.train_rows, data.validation_rows, data.test_rows]
    tensors += [tensor for tensor in (data.weights, data.groups) if tensor is not None]
    tensors += [part for fold in data.given_folds or () for part in fold]
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().numpy().data)
    digest.update(str((data.task, data.classes, data.scaling)).encode())
    if data.columns is not None:
        digest.update(str((data.columns.used, data.ordered)).encode())
    return digest.hexdigest()


class Folder:
    """Where a study keeps what it has found.

    Args:
        path: the folder; made when the first file is written.
    """

    def __init__(self, path: Path):
        self.path = Path(path)

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file, whole or not at all."""
        text = json.dumps(value, indent=1, allow_nan=False)
        self.write(name, lambda file: file.write_text(text + "\n", encoding="utf-8"))

    def read(self, name: str, kind: type[T]) -> T | None:
        """Return the contents of a JSON file, None where there is no such file.

        Raises:
            InputError: it is damaged, or is not of `kind`.
        """
        return _schema.read_file(self.path / name, kind)

    def tidy(self) -> None:
        """Remove what writers left that were killed, wherever a study writes; files of any other name stay."""
        for place in (self.path, *(self.path / name for name in _PLACES)):
            _io.tidy(place)
        for checkpoint in _io.folders_in(self.path / "checkpoints"):
            _io.tidy(checkpoint)

    def forget(self, run: str) -> None:
        """Remove what a run of the search, or of another phase, was saved to; others' files stay there."""
        place = self.path / "checkpoints" / run
        with contextlib.suppress(OSError):  # not there, or not empty
            for entry in list(place.iterdir()):
                if entry.name == POPULATION or _io.is_own(entry.name):
                    _io.remove(entry)
            place.rmdir()

    def write_frame(self, name: str, frame: "pd.DataFrame") -> None:
        """Write a Parquet file, whole or not at all."""
        self.write(name, lambda file: frame.to_parquet(file, engine="pyarrow", index=False))

    def read_frame(self, name: str) -> "pd.DataFrame":
        """Return the rows of a Parquet file.

        Raises:
            InputError: there is none, it is damaged, or it has more rows than a study's curves.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self.path / name
        try:
            about = pq.read_metadata(file)
            if about.num_rows > _MOST_ROWS or about.num_columns > _MOST_COLUMNS:
                raise InputError(
                    f"{file} is damaged: no curves have {about.num_rows:,} rows of {about.num_columns:,} columns"
                )
            frame = read_parquet(file)
            return frame.rename(columns=lambda name: re.sub("_acc$", "_accuracy", str(name)))  # of older studies
        except (OSError, ValueError, pa.ArrowException, KeyError, TypeError) as e:
            if isinstance(e, InputError):
                raise
            raise InputError(f"{_io.shortened(file)} can't be read: {_io.shortened(e)}") from e

    def write(self, name: str, writer: Callable[[Path], object]) -> None:
        """Let `writer` write a file beside the one that is meant, then put it in its place.

        Raises:
            InputError: the folder can't be written to.
        """
        _io.write_whole(self.path / name, writer)
