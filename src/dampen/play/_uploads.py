"""A reader's files: bounded, in a folder that goes away with the tab, and read as the command line reads them."""

import re
import shutil
import tempfile
import weakref
from pathlib import Path

from dampen.data import Data, column_names, load
from dampen.errors import InputError

LARGEST_FILE = 20 << 20  # bytes
_LONGEST_NAME = 80


class Uploads:
    """The files of one tab; `remove` removes all of it."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="dampen-play-"))
        self.remove = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)  # at the latest at exit
        self._names: dict[str, str] = {}  # of the files here: what the reader calls them
        self._n = 0

    def place(self, name: str, size: int) -> Path:
        """Return where a file belongs.

        Args:
            name: as the browser gives it: any text.
            size: in bytes.

        Raises:
            InputError: the file is too large.
        """
        if size > LARGEST_FILE:
            raise InputError(
                f"{_shown(name)} has {size / (1 << 20):.0f} MiB; a file of {LARGEST_FILE >> 20} MiB at most is taken: "
                "give its path to dampen play instead"
            )
        self._n += 1
        safe = re.sub(r"[^\w.-]", "_", Path(name.replace("\\", "/")).name).lstrip(".")[-_LONGEST_NAME:] or "file"
        folder = self._folder / str(self._n)
        folder.mkdir()
        self._names[str(folder / safe)] = _shown(name)
        return folder / safe

    def columns(self, file: Path) -> list[str]:
        """Return the names of a table's columns.

        Raises:
            InputError: it can't be read, in the command line's words.
        """
        try:
            return column_names(file)
        except InputError as e:
            raise InputError(self._told(e)) from None

    def read(self, file: Path, target: str) -> Data:
        """Read a table.

        Raises:
            InputError: nothing can be learnt from it, in the command line's words.
        """
        try:
            return load(file, target=target)
        except InputError as e:
            raise InputError(self._told(e)) from None

    def _told(self, error: InputError) -> str:
        """Return an error's line with the files as the reader calls them."""
        line = " ".join(str(error).split())
        for path, name in self._names.items():
            line = line.replace(path, name)
        return line


def _shown(name: str) -> str:
    return "".join(c for c in name if c.isprintable())[:_LONGEST_NAME] or "file"
