"""The folders of studies in `dampen-runs`: listed, opened, and made ready to go on."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dampen._io import RUNS, is_locked
from dampen.data import Data, load
from dampen.errors import InputError
from dampen.study import Study, load_study
from dampen.study._documents import planned, progress
from dampen.study._kept import named
from dampen.study._storage import Folder

_MOST_RUNS = 50  # that are listed


@dataclass(frozen=True)
class Run:
    """A study's folder.

    Args:
        name: of the folder.
        state: whether the study is there to read or can go on, or a process writes to it now.
        changed: when it last changed, in seconds since 1970.
    """

    name: str
    state: Literal["finished", "unfinished", "running"]
    changed: float


@dataclass(frozen=True)
class Point:
    """A setting of a search.

    Args:
        weight_decay: its weight decay.
        dropout: its dropout; the mean where layers have their own.
        cost: the mean cost on the selection rows, less is better; None before its first training has ended and for
            one that diverged.
        alive: whether it has not been dropped.
    """

    weight_decay: float
    dropout: float
    cost: float | None
    alive: bool


def runs() -> list[Run]:
    """Return the studies in `dampen-runs`, the latest first."""
    return [
        Run(
            study.folder.name,
            "finished" if study.finished else "running" if is_locked(study.folder) else "unfinished",
            study.changed.timestamp(),
        )
        for study in (named(RUNS)[:_MOST_RUNS] if RUNS.is_dir() else ())
    ]


def folder_of(name: str) -> Path:
    """Return the folder of a study that is listed.

    Raises:
        InputError: none has that name.
    """
    if name not in {run.name for run in runs()}:
        raise InputError(f"there is no study {name[:80]!r} in {RUNS}")
    return RUNS / name


def new_folder(data: Data) -> Path:
    """Return a folder for another study of some data."""
    name = re.sub(r"[^\w.-]", "_", data.name)[:100].lstrip(".") or "table"
    return next(RUNS / f"{name}-{n}" for n in range(1, 1_000_000) if not (RUNS / f"{name}-{n}").exists())


def report(name: str) -> str:
    """Return a finished study's report, written anew: the folder's own may hold anything.

    Raises:
        InputError: there is no such study, or it is damaged.
    """
    study = load_study(folder_of(name))
    with tempfile.TemporaryDirectory() as place:
        study.report(Path(place) / "report.html")
        return (Path(place) / "report.html").read_text(encoding="utf-8")


def opened(name: str) -> tuple[Study, list[Point], Point]:
    """Return a finished study, the settings that it tried, and the recommended one.

    Raises:
        InputError: there is no such study, or it is damaged.
    """
    study = load_study(folder_of(name))
    rungs = study.results.rungs()
    return study, points([], rungs), recommended(dict(study.setting.items()), rungs)


def recommended(setting: Mapping[str, Any], rungs: Sequence[Mapping[str, Any]]) -> Point:
    """Return a setting with what its last training cost in whichever family: a simpler alternative may have won."""
    place, cost = _place(setting), None
    for rung in rungs:
        for other, its in zip(rung["settings"], rung["costs"], strict=True):
            cost = its if _place(other) == place else cost
    return Point(*place, cost, True)


def points(drawn: Sequence[Mapping[str, Any]], rungs: Sequence[Mapping[str, Any]], keep: int = 0) -> list[Point]:
    """Return the settings of a search, each with what its last training cost.

    Args:
        drawn: settings that have not ended any training.
        rungs: what the rungs found.
        keep: how many of the last rung train on; 0: all of it.
    """
    search = [rung for rung in rungs if rung["family"] == "search"]
    found: dict[tuple[float, float], Point] = {}
    for setting in drawn:
        place = _place(setting)
        found[place] = Point(*place, None, True)
    for i, rung in enumerate(search):
        last = i == len(search) - 1
        following = search[i + 1]["settings"] if not last and search[i + 1]["bracket"] == rung["bracket"] else None
        going = rung["settings"][: keep or None] if last else following or ()
        on = {_place(setting) for setting in going}
        for setting, cost in zip(rung["settings"], rung["costs"], strict=True):
            place = _place(setting)
            found[place] = Point(*place, cost, place in on)
    return list(found.values())


def in_progress(folder: Path) -> list[Point]:
    """Return the settings of a study that goes on."""
    place = Folder(folder)
    plan = planned(place)
    if plan is None:
        return []
    rungs = progress(place, plan["metric"])
    bracket = plan["brackets"][0]
    done = [rung for rung in rungs if rung["family"] == "search" and rung["bracket"] == 0]
    keep = (
        bracket["rungs"][len(done) - 1][1] if 0 < len(done) <= len(bracket["rungs"]) and len(done) == len(rungs) else 0
    )
    return points(bracket["drawn"] or [], rungs, keep)


def to_resume(name: str, at_hand: Data | None) -> tuple[Path, Data, dict[str, Any]]:
    """Return the folder, the data and the options of a study that goes on.

    Args:
        name: of its folder.
        at_hand: data that the reader has chosen: it is taken where it bears the name of the study's.

    Raises:
        InputError: there is no such study, it is damaged, or its data is gone.
    """
    folder = folder_of(name)
    plan = planned(Folder(folder))
    if plan is None:
        raise InputError(f"{folder} holds no study that can go on")
    if at_hand is not None and at_hand.name == plan["data"]["name"]:
        data = at_hand
    elif not plan.get("reading"):
        raise InputError(f"the data of {name} was in memory: it goes on from Python, with tune(..., resume=True)")
    else:
        try:
            data = load(**plan["reading"])
        except InputError as e:
            raise InputError(
                f"{' '.join(str(e).split())}; upload {plan['data']['name']} again and choose its target, then resume"
            ) from None
    lengths = plan["lengths"]
    sizes = {
        "n_settings": sum(bracket["settings"] for bracket in plan["brackets"]),
        "n_seeds": len(plan["seeds"]),
        "n_confirm_seeds": len(plan["confirm_seeds"]),
        "epochs": lengths["planned"] if lengths["planned"] == lengths["longest"] else None,
    }
    options = {"budget": plan["budget"], "metric": plan["metric"], "confirmed": plan["confirmed"], "seed": plan["seed"]}
    return folder, data, options | (sizes if plan["budget"] is None else {})


def mean_rate(dropout: Any) -> float:
    """Return a setting's dropout as one number: the mean where layers have their own."""
    if isinstance(dropout, list | tuple):
        return float(sum(dropout) / len(dropout)) if dropout else 0.0
    return float(dropout or 0.0)


def _place(setting: Mapping[str, Any]) -> tuple[float, float]:
    return float(setting.get("weight_decay", 0.0)), mean_rate(setting.get("dropout", 0.0))
