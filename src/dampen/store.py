"""A study's folder: results as JSON and Parquet, weights as safetensors, each file whole or not there."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dampen.data import Data, read_parquet
from dampen.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def fingerprint(data: Data) -> str:
    """Return a hash of everything that a data set's rows say, and of how they are split."""
    digest = hashlib.blake2b(digest_size=16)
    said = [data.features, data.targets, data.train_rows, data.validation_rows, data.test_rows]
    said += [tensor for tensor in (data.weights, data.groups) if tensor is not None]
    for tensor in said:
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
        self.write(name, lambda file: file.write_text(text + "\n"))

    def read_json(self, name: str) -> Any:
        """Return what a JSON file says, None where there is no such file.

        Raises:
            InputError: it is damaged.
        """
        file = self.path / name
        try:
            return json.loads(file.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as e:
            raise InputError(f"{file} can't be read: {e}") from e

    def tidy(self) -> None:
        """Remove what writers left that were killed."""
        for scratch in self.path.rglob(".*"):
            if scratch.is_file():
                scratch.unlink(missing_ok=True)

    def write_frame(self, name: str, frame: "pd.DataFrame") -> None:
        """Write a Parquet file, whole or not at all."""
        self.write(name, lambda file: frame.to_parquet(file, index=False))

    def read_frame(self, name: str) -> "pd.DataFrame":
        """Return the rows of a Parquet file.

        Raises:
            InputError: there is none, or it is damaged.
        """
        try:
            return read_parquet(self.path / name)
        except InputError:
            raise
        except Exception as e:  # pyarrow's and pandas', of a damaged file
            raise InputError(f"{self.path / name} can't be read: {(str(e) or type(e).__name__).splitlines()[0]}") from e

    def write(self, name: str, writer: Callable[[Path], object]) -> None:
        """Let `writer` write a file beside the one that is meant, then put it in its place.

        Raises:
            InputError: the folder can't be written to.
        """
        target = self.path / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
            os.close(handle)
            try:
                writer(Path(scratch))
                os.chmod(scratch, 0o666 & ~_umask())
                os.replace(scratch, target)
            except BaseException:
                Path(scratch).unlink(missing_ok=True)
                raise
        except OSError as e:
            raise InputError(f"{target} can't be written: {e.strerror or e}") from e


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
