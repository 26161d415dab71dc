"""Fetching a published set into the user's cache: all four files, or nothing."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from dampen.data._published import PUBLISHED
from dampen.data.images._idx_folder import FILES, find_files
from dampen.errors import InputError

MIRROR = "DAMPEN_MIRROR"
_TIMEOUT_S = (10, 30)  # to connect, and between two packets
_CHUNK_BYTES = 1 << 16


def fetch(name: str, folder: Path, *, progress: bool) -> None:
    """Download the four files of a published set and move them into `folder` as the last act.

    They come from the publisher, or from `{DAMPEN_MIRROR}/{name}/` when that environment variable is
    set; their MD5 is checked either way. A failure leaves nothing behind, and two processes that do
    the same at once don't disturb each other.

    Raises `InputError` with how to put the files there by hand.
    """
    address = _address(name)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as scratch:
            staged = Path(scratch) / name
            staged.mkdir()
            for file in FILES:
                _fetch_file(f"{address}{file}.gz", PUBLISHED[name].md5[file], staged, progress=progress)
            _publish(staged, folder)
    except _FetchError as error:
        raise InputError(f"{name}: {error}; {_by_hand(address, folder)}") from error
    except OSError as error:
        reason = f"can't write to {folder}: {error.strerror or error}"
        raise InputError(f"{name}: {reason}; free the folder, or pass data_dir with the set in it") from error


class _FetchError(Exception):
    """One file could not be fetched; the message has the reason."""


def _address(name: str) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{name}/" if mirror else PUBLISHED[name].address


def _fetch_file(url: str, md5: str, folder: Path, *, progress: bool) -> None:
    import pooch

    path = folder / url.rsplit("/", 1)[1]
    with _bar(path.name, shown=progress) as show:
        received = _Received(show)
        # pooch.retrieve would do both steps, but logs them to stderr; its annotations have no bars
        download = cast(Any, pooch.HTTPDownloader)(progressbar=received, chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S)
        try:
            download(url, str(path), None)
        except OSError as error:
            if error.errno is not None:  # the disk's, not the network's
                raise
            raise _FetchError(_reason(error, url, received.total is not None)) from error
    if pooch.file_hash(str(path), alg="md5") != md5:
        raise _FetchError(f"what came from {url} is not the published file (wrong MD5)")


def _reason(error: OSError, url: str, begun: bool) -> str:
    """Return why a download failed; `begun`: after the server had responded."""
    response = getattr(error, "response", None)
    if response is not None:
        response.close()  # pooch leaves it open
        return f"the server responded {response.status_code} for {url}"
    if isinstance(error, ValueError):  # no address, or one of another protocol
        return f"{url} can't be fetched ({type(error).__name__})"
    if begun:
        return f"the connection broke in the middle of {url}"
    if "timed out" in str(error):
        return f"no response in time from {url}"
    return f"no connection to {url}"


class _Received:
    """How much of a file has come, as pooch reports it; the total is None until the server has responded."""

    def __init__(self, show: Callable[[int, int | None], None]):
        self.total: int | None = None
        self._bytes, self._show = 0, show

    def update(self, n: int) -> None:
        """Count what has come."""
        self._bytes = min(self._bytes + n, self.total or sys.maxsize)  # pooch counts whole pieces
        self._show(self._bytes, self.total or None)

    def reset(self) -> None:
        """Begin at 0."""
        self._bytes = 0

    def close(self) -> None:
        """Do nothing: the bar ends by itself."""


@contextmanager
def _bar(name: str, *, shown: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on stderr if that is a terminal; yields `show(bytes, total)`."""
    if not (shown and sys.stderr.isatty()):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _publish(staged: Path, folder: Path) -> None:
    try:
        staged.rename(folder)
    except OSError:  # the folder is there: by another process, or with some of the files
        folder.mkdir(exist_ok=True)
        for path in find_files(staged).values():
            path.replace(folder / path.name)


def _by_hand(address: str, folder: Path) -> str:
    files = ", ".join(f"{file}.gz" for file in FILES)
    return (
        f"by hand: put {files} from {address} into {folder}, "
        f"or name a folder that has them in data_dir or DAMPEN_DATA, or a mirror in {MIRROR}"
    )
