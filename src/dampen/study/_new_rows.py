"""New rows for a study: files, folders, frames or arrays, read as its own data was."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dampen._checks import as_path
from dampen.data import (
    NAMES,
    Data,
    Incoming,
    Normalisation,
    is_image,
    is_table,
    load,
    new_rows,
    read_incoming,
    read_new_images,
    read_rows,
)
from dampen.errors import InputError

if TYPE_CHECKING:
    from dampen.study._fresh import FreshResults
    from dampen.study._saved import SavedResults


def read_new_rows(
    results: "FreshResults | SavedResults", rows: Any, data_dir: str | Path | None = None, *, progress: bool = False
) -> Data | Incoming:
    """Return rows that the study was not made on: a table's or arrays' raw rows, or data as `load` reads it.

    Args:
        results: the study's.
        rows: a name or path; a frame, an array, a tensor or lists; `Data` and `Incoming` are returned as they are.
        data_dir: where data is looked for that has to be loaded.
        progress: whether to show a bar while it is.

    Raises:
        InputError: as `load`, `Preprocessing.read` and `read_incoming`; or a table for a study of something else.
    """
    if isinstance(rows, Data | Incoming):
        return rows
    about = results.predictor.description
    if not isinstance(rows, str | Path):
        return new_rows(rows, about.normalisation, about.task, about.classes, about.target)
    place = as_path("rows", rows)
    source = str(place)
    if is_npz(source) and isinstance(about.normalisation, Normalisation):
        incoming = read_incoming(place, about.normalisation, about.task, about.classes)
        if incoming is not None:
            return incoming
    if is_npz(source) and about.preprocessing is not None:
        incoming = read_rows(place, about.preprocessing)
        if incoming is not None:
            return incoming
    white = None
    if holds_images(source) and isinstance(about.normalisation, Normalisation):
        white = results.reading.get("image_max")
        images = read_new_images(place, about.normalisation, about.classes, about.inputs, white)
        if images is not None:
            return images
        if len(about.inputs) == 3 and about.inputs[1] == about.inputs[2]:
            return load(source, image_size=about.inputs[1], image_max=white, data_dir=data_dir)
    if not is_table(source):
        return load(source, image_max=white, data_dir=data_dir, progress=progress)
    if about.preprocessing is None:
        shape = ", ".join(map(str, ("N", *about.inputs)))
        raise InputError(
            f"the study was made on {about.name!r}, which is not a table: {source} can't be matched to it by columns; "
            f"a .npz file with an array x of shape [{shape}] will do"
        )
    return about.preprocessing.read(source)


def is_npz(source: str) -> bool:
    """Return whether a path is that of arrays."""
    return source.lower().endswith(".npz")


def holds_images(source: str) -> bool:
    """Return whether a path may be of images: a file, or a folder, unless it is a set's name."""
    return source not in NAMES and (os.path.isdir(source) or is_image(Path(source)))
