"""The first rows of a large text file: what can be known of it before it has been read."""

import tempfile
from pathlib import Path
from typing import Any

from dampen.data._dataset import Data
from dampen.data._load import load
from dampen.errors import InputError

_LARGE = 1 << 25  # bytes of a file that takes seconds to read
_HEAD = 1 << 22  # bytes that are read of it
_ENDINGS = (".csv", ".tsv", ".txt")  # of text as it is: how long a compressed one is can't be seen


def read_head(path: Path, **reading: Any) -> tuple[Data, float] | None:
    """Return the data of a large text file's first rows, and how many times as long the file is.

    None where the file is small or of another kind, or where its first rows can't be read by themselves: what is wrong
    is an error of `load`, which reads them all.

    Args:
        path: the file.
        reading: options of `load`.
    """
    if path.suffix.lower() not in _ENDINGS or not path.is_file():
        return None
    size = path.stat().st_size
    if size < _LARGE:
        return None
    with path.open("rb") as file:
        head = file.read(_HEAD)
    head = head[: head.rfind(b"\n") + 1]
    if not head or head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 has its line ends elsewhere
        return None
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / path.name
        part.write_bytes(head)
        try:
            return load(part, **{name: value for name, value in reading.items() if name != "test"}), size / len(head)
        except InputError:
            return None
