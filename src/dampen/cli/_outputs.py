"""What a command writes stays apart from what it reads."""

import os
from pathlib import Path
from typing import Any

from dampen.cli import _startup
from dampen.errors import InputError

_WITHIN_STUDY = ("checkpoints", "curves")  # folders that only a study writes to


def keep_apart(out: Path | None, option: str, *sources: str | os.PathLike[str] | None) -> None:
    """Refuse to write over what is read, or to put a picture among images that are read.

    Args:
        out: file that is to be written, if any.
        option: that names it.
        sources: data that is read, by file, folder or name.

    Raises:
        InputError: the file is one of them, or would become one of their images.
    """
    with _startup.importing():
        from dampen.data import NAMES
        from dampen.data.images._files import ENDINGS
        from dampen.data.images._idx_folder import find_files

    for source in sources if out is not None else ():
        if source is None or str(source) in NAMES or not os.path.exists(source):
            continue
        assert out is not None
        if os.path.exists(out) and os.path.samefile(out, source):
            raise InputError(f"{option} {out} is the data itself, which is not overwritten: name another file")
        becomes_one = out.suffix.lower() in ENDINGS
        inside = os.path.realpath(out).startswith(os.path.join(os.path.realpath(source), ""))
        if becomes_one and inside and os.path.isdir(source) and not find_files(Path(source)):
            raise InputError(
                f"{option} {out} lies in {source}, where it would become one of the images that are read: name a file "
                "elsewhere"
            )


def keep_from_study(out: Path | None, option: str, study: Path) -> None:
    """Refuse to write over the data that a study was made on, or among what its folder keeps.

    Raises:
        InputError: the file is that data or lies there, or there is no finished study.
    """
    from dampen.study import finished

    if out is None:
        return
    reading: dict[str, Any] = finished(study)["plan"].get("reading") or {}
    keep_apart(out, option, reading.get("source"), reading.get("test"))
    for name in _WITHIN_STUDY:
        if os.path.realpath(out).startswith(os.path.join(os.path.realpath(study / name), "")):
            raise InputError(f"{option} {out} lies among what the study keeps in {study / name}: name a file elsewhere")
