"""Where a published set's four files lie: a given folder, the environment's, the cache, the network."""

import os
import sys
from pathlib import Path

from dampen._checks import expanded
from dampen.data._download import fetch
from dampen.data._published import PUBLISHED
from dampen.data.images._idx_folder import FILES, complete_files, find_files
from dampen.errors import InputError

FOLDER = "DAMPEN_DATA"


def find(name: str, data_dir: Path | None, *, progress: bool) -> tuple[Path, str]:
    """Find the folder that holds the set `name`; also returns a word on where that is.

    Looked for in this order, and downloaded into the cache when it is nowhere: `data_dir`, the folder
    in the environment variable `DAMPEN_DATA`, the user's cache. The first two may hold the files
    themselves or in a subfolder called `name`.

    Raises `InputError` when a folder is missing or holds only some of the four files.
    """
    passed_by = ""
    environment = expanded(os.environ.get(FOLDER))
    for folder, origin in ((data_dir, "data_dir"), (environment, FOLDER)):
        if folder is None or folder == "":
            continue
        holder = _holder(name, existing(Path(folder), origin))
        if holder is not None:
            return holder, f"{holder}{passed_by}"
        note = f"no {name} in {origin} {folder}"
        passed_by += f" ({note})"
        if progress:
            print(f"dampen: {note}, looking further", file=sys.stderr)
    import pooch

    cache = Path(pooch.os_cache("dampen")) / name
    if len(find_files(cache)) < len(FILES):
        if progress:
            print(f"dampen: downloading {name} into {cache}", file=sys.stderr)
        fetch(name, cache, progress=progress)
    return cache, f"{cache}{passed_by}"


def is_here(name: str) -> bool:
    """Return whether a published set lies on this machine, so that `find` need not fetch it."""
    import pooch

    environment = expanded(os.environ.get(FOLDER))
    try:
        if environment and _holder(name, Path(environment)) is not None:
            return True
    except InputError:  # some of its files are missing
        return False
    return len(find_files(Path(pooch.os_cache("dampen")) / name)) == len(FILES)


def existing(folder: Path, origin: str) -> Path:
    """Return `folder` when it is one; raises `InputError` naming where it was given when it isn't."""
    if not os.path.isdir(folder):
        raise InputError(f"{origin} {folder} is not a folder; correct it or leave it out")
    return folder


def _holder(name: str, folder: Path) -> Path | None:
    for candidate in (folder / name, folder):
        if candidate.resolve().name in PUBLISHED.keys() - {name}:
            continue  # another set's folder: its files bear the same names
        if find_files(candidate):
            complete_files(candidate)
            return candidate
    return None
