"""The studies that a folder keeps: listed, put side by side, and removed."""

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct

from dampen._checks import as_path
from dampen._html import is_page
from dampen._io import RUNS, counted, exists, folders_in, is_locked, is_own, locked, read_head, remove, shortened
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.study._calibration_rows import FILE as CALIBRATION
from dampen.study._documents import FINISHED, PROGRESS, Source, finished
from dampen.study._plan_differences import every_difference
from dampen.study._saved import finished as finished_in
from dampen.study._setting_text import setting_text
from dampen.study._storage import RUN, Folder

_PLAN = "plan.json"
_PAGES = ("report.html", "trust.html")
_OF_STUDY = frozenset(
    {
        *(_PLAN, FINISHED, PROGRESS, "time.json", "budget.json", "loss.json", "curves.parquet", "model.safetensors"),
        *("preprocessing.json", CALIBRATION, *_PAGES, "checkpoints", "curves"),
    }
)


class _Known(Struct, frozen=True, kw_only=True):
    """What every version's plan has, by which a folder is known to be a study's."""

    data: Source


class _KnownFinished(Struct, frozen=True, kw_only=True):
    """The same of a finished study that has lost its plan."""

    plan: _Known


@dataclass(frozen=True)
class Kept:
    """A study's folder.

    Args:
        folder: where it is.
        state: whether it can be read, can go on, is written to now, or can't be read.
        changed: when it last changed.
        data: what it was made on; empty where that can't be read.
        document: what it found, as `Study.document` returns it; None where it has not ended or can't be read.
        reason: why it can't be read; empty otherwise.
    """

    folder: Path
    state: Literal["finished", "unfinished", "running", "damaged"]
    changed: datetime
    data: str
    document: Mapping[str, Any] | None
    reason: str = ""

    @property
    def outcome(self) -> str:
        """Whether regularisation helps, in a word or two; the state of a study that has not ended."""
        return self.state if self.document is None else outcome(self.document)

    def summary(self) -> dict[str, Any]:
        """Return what a list of studies has about it, as JSON can hold it."""
        head = {
            "folder": str(self.folder),
            "state": self.state,
            "changed": self.changed.isoformat(timespec="seconds"),
            "data": self.data,
            "reason": self.reason or None,
        }
        return head if self.document is None else head | summary(self.document)


def outcome(document: Mapping[str, Any]) -> str:
    """Return whether regularisation helps, in a word or two."""
    if document["diagnosis"] is None:
        return "comparison"
    if document["learnt"] is False:
        return "nothing learnt"
    return {True: "helps", False: "does not help", None: "not settled"}[document["helps"]]


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a finished study by which others are put beside it."""
    gain, length = document["gain"], document.get("length")
    return {
        "outcome": outcome(document),
        "metric": document["metric"],
        "value": document["validation"]["mean"],
        "interval": document["validation"]["interval"],
        "setting": document["recommended"],
        "epochs": length["epochs"] if length else document["plan"].get("epochs"),
        "gain": gain and {name: gain[name] for name in ("against", "estimate", "interval")},
        "test": (document["test"].get("recommended") or {}).get(document["metric"]),
        "seconds": document["seconds"],
    }


def in_words(document: Mapping[str, Any]) -> str:
    """Return a study's recommended training, `weight decay 0.1, lr 0.001, 12 epochs`."""
    epochs = summary(document)["epochs"]
    setting = setting_text(Setting.from_dict(document["recommended"]))
    return setting if epochs is None else f"{setting}, {counted(epochs, 'epoch')}"


def kept(folder: str | Path = RUNS) -> tuple[Kept, ...]:
    """Return the studies in a folder, the latest first; other folders in it are left out.

    Nothing in them is changed. Of a folder that is itself a study, that one is returned.

    Args:
        folder: of studies; by default where `dampen tune` keeps them.

    Raises:
        InputError: there is no such folder, or it can't be read.

    Example:
        >>> import tempfile
        >>> kept(tempfile.mkdtemp())
        ()
    """
    place = as_path("folder", folder)
    if not exists(place):
        hint = "dampen tune makes it" if place == RUNS else "correct the name"
        raise InputError(f"there is no folder {shortened(place)} with studies: {hint}, or name another folder")
    if not place.is_dir():
        raise InputError(f"{shortened(place)} is a file: name a folder of studies")
    alone = _named(place)
    if alone is not None and (study := _kept(alone)) is not None:
        return (study,)
    return tuple(study for study in map(_kept, named(place)) if study is not None)


@dataclass(frozen=True)
class Named:
    """A folder with a document of the name of a study's; whether it is one is known when that is read.

    Args:
        folder: where it is.
        finished: whether that is the document of a finished study.
        changed: when the document last changed.
    """

    folder: Path
    finished: bool
    changed: datetime


def named(place: Path) -> tuple[Named, ...]:
    """Return the folders in a folder that look like studies, the latest first; nothing in them is read.

    Raises:
        InputError: the folder can't be read.
    """
    try:
        found = [study for study in map(_named, place.iterdir()) if study is not None]
    except OSError as e:
        raise InputError(f"{shortened(place)} can't be read: {e.strerror or e}") from e
    return tuple(sorted(found, key=lambda study: (study.changed, study.folder.name), reverse=True))


def _named(folder: Path) -> Named | None:
    try:
        for name in (FINISHED, _PLAN):
            if (folder / name).is_file():
                changed = datetime.fromtimestamp((folder / name).stat().st_mtime, UTC)
                return Named(folder, name == FINISHED, changed)
    except OSError:
        pass
    return None


def study_folder(name: str | Path, within: str | Path = RUNS) -> Path:
    """Return the folder of a study that is named by its path, or by its name in the folder of studies.

    Raises:
        InputError: there is no folder of that name.
    """
    own = as_path("a study's name", name)
    if not str(name).strip():
        raise InputError("a study's name is empty: dampen runs lists those that there are")
    found = [place for place in (own, as_path("within", within) / own) if exists(place)]
    if found:
        return next((place for place in found if _named(place) is not None), found[0])
    raise InputError(
        f"there is no study {shortened(name)}, here or in {within}: dampen runs lists those that there are"
    )


def remove_study(folder: str | Path) -> tuple[Path, ...]:
    """Remove a study; return the files in its folder that are none of a study's, which stay.

    The plan goes last, so that what is left by a removal that was killed is still a study, and can be removed.

    Raises:
        InputError: it is no study, is written to now, or can't be removed.
    """
    place = as_path("folder", folder)
    check_removable(place)
    with locked(place):
        names = [entry.name for entry in place.iterdir() if _is_ours(entry)]
        last = (FINISHED, _PLAN)
        for name in sorted(names, key=lambda name: last.index(name) if name in last else -1):
            if name != ".dampen-lock":
                _remove(place / name)
    left = tuple(sorted(place.iterdir())) if place.is_dir() else ()
    stuck = [entry.name for entry in left if _is_ours(entry) and not entry.is_dir()]
    if stuck:
        raise InputError(
            f"{shortened(place / stuck[0])} can't be removed: change its permissions, then remove it again"
        )
    if not left and place.is_dir():
        try:
            place.rmdir()
        except OSError as e:
            raise InputError(f"{shortened(place)} can't be removed: {e.strerror or e}") from e
    return left


def _remove(path: Path) -> None:
    """Remove a file, or what a study writes to a folder of its own: others' files stay, and the folder with them."""
    if path.is_symlink() or not path.is_dir() or is_own(path.name):
        remove(path)
        return
    if path.name == "checkpoints":
        for run in folders_in(path):
            if re.fullmatch(RUN, run.name):
                Folder(path.parent).forget(run.name)
    for file in path.iterdir():
        of_run = path.name == "curves" and file.suffix == ".parquet" and re.fullmatch(RUN, file.stem)
        if of_run or is_own(file.name):
            remove(file)
    with contextlib.suppress(OSError):  # not empty
        path.rmdir()


def _is_ours(entry: Path) -> bool:
    """Return whether a study writes what is in its folder under this name: a page of somebody else's has no mark."""
    if entry.name in _PAGES and entry.is_file():
        with contextlib.suppress(OSError):
            head = read_head(entry)
            return not head or is_page(head)
    return entry.name in _OF_STUDY or is_own(entry.name)


def check_removable(folder: Path) -> None:
    """Make sure that a folder is a study's, and that nothing writes to it.

    Raises:
        InputError: it is not, or something does.
    """
    if folder.is_symlink():
        raise InputError(f"{shortened(folder)} is a link: name the study's folder itself, {os.path.realpath(folder)}")
    if not exists(folder):
        raise InputError(f"there is no folder {shortened(folder)}: dampen runs lists the studies that there are")
    if not folder.is_dir() or not _is_study(folder):
        raise InputError(
            f"{shortened(folder)} is no study: it has no plan.json or study.json of dampen's; nothing was removed"
        )
    if Path(os.path.realpath(folder)) in (here := Path.cwd(), *here.parents):
        raise InputError(f"{shortened(folder)} is where you are: leave it first; nothing was removed")
    if is_locked(folder):
        raise InputError(f"a process is writing to {shortened(folder)}: end it first; nothing was removed")


def side_by_side(folders: Sequence[str | Path]) -> dict[str, Any]:
    """Return finished studies beside each other, as JSON can hold it.

    `studies` has the summary of each with its folder; `differences` how the plan of each differs from the first one's;
    `notes` what keeps their figures from being compared.

    Raises:
        InputError: fewer than two, or one is not finished or is damaged.
    """
    if isinstance(folders, str) or not isinstance(folders, Sequence):
        raise InputError(f"folders must be a list of studies' folders, got {folders!r}")
    if len(folders) < 2:
        raise InputError("a comparison needs two studies or more: name another one")
    documents = [finished_in(folder) for folder in folders]
    first, *others = documents
    notes = []
    if len({document["plan"]["data"]["fingerprint"] for document in documents}) > 1:
        notes.append("they were made on different rows or splits, so a difference of their figures may come from these")
    else:
        notes.append("their evaluation rows and seeds were not paired: intervals that overlap settle nothing")
    if len({document["metric"] for document in documents}) > 1:
        notes.append("their metrics differ, so their figures can't be compared")
    return {
        "studies": [
            {
                "folder": str(as_path("folder", folder)),
                "data": document["data"],
                **summary(document),
                "training": in_words(document),
            }
            for folder, document in zip(folders, documents, strict=True)
        ],
        "differences": [[], *(every_difference(first["plan"], other["plan"]) for other in others)],
        "notes": notes,
    }


def _kept(of: Named) -> Kept | None:
    """Return a folder's study; None where it holds none."""
    folder, changed = of.folder, of.changed
    try:
        document = finished(Folder(folder))
        if document is not None:
            return Kept(folder, "finished", changed, document["data"], document)
        plan = Folder(folder).read(_PLAN, _Known)
        if plan is None:  # removed since it was found
            return None
        return Kept(folder, "running" if is_locked(folder) else "unfinished", changed, plan.data.name, None)
    except InputError as e:
        return Kept(folder, "damaged", changed, "", None, str(e)) if _is_study(folder) else None


def _is_study(folder: Path) -> bool:
    """Return whether a folder has a document that only a study has; what else is wrong with it does not matter."""
    for name, kind in ((_PLAN, _Known), (FINISHED, _KnownFinished)):
        try:
            if Folder(folder).read(name, kind) is not None:
                return True
        except InputError:
            continue
    return False
