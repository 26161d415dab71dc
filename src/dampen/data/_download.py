"""Fetching a published set into the user's cache: all four files, or nothing."""

import os
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext
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

    Raises `InputError` that says how to put the files there by hand.
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
    """One file could not be fetched; the message says why."""


def _address(name: str) -> str:
    mirror = os.environ.get(MIRROR)
    return f"{mirror.rstrip('/')}/{name}/" if mirror else PUBLISHED[name].address


def _fetch_file(url: str, md5: str, folder: Path, *, progress: bool) -> None:
    import pooch
    import requests

    path = folder / url.rsplit("/", 1)[1]
    with _bar(path.name, shown=progress) as bar:
        # pooch.retrieve would do both steps, but logs them to stderr; its annotations know no bars
        download = cast(Any, pooch.HTTPDownloader)(
            progressbar=False if bar is None else bar, chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S
        )
        try:
            download(url, str(path), None)
        except requests.HTTPError as error:
            response = cast(requests.Response, error.response)
            response.close()  # pooch leaves it open
            raise _FetchError(f"the server answered {response.status_code} for {url}") from error
        except requests.Timeout as error:
            raise _FetchError(f"no answer in time from {url}") from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise _FetchError(f"the connection broke in the middle of {url}") from error
        except requests.ConnectionError as error:
            raise _FetchError(f"no connection to {url}") from error
        except requests.RequestException as error:
            raise _FetchError(f"{url} can't be fetched ({type(error).__name__})") from error
    if pooch.file_hash(str(path), alg="md5") != md5:
        raise _FetchError(f"what came from {url} is not the published file (wrong MD5)")


def _bar(name: str, *, shown: bool) -> AbstractContextManager[Any]:
    if not (shown and sys.stderr.isatty()):
        return nullcontext()
    from tqdm import tqdm

    # pooch asks for the bar's truth, which needs a total; it sets the right one when it has it
    return tqdm(total=1, desc=name, unit="B", unit_scale=True, leave=False, file=sys.stderr)


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
