"""How a study begins: what can't be part of it, its data and training made ready, its folder opened."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from dampen.data import Data
from dampen.errors import InputError
from dampen.knobs import Setting
from dampen.population import Builder, Model, Schedule
from dampen.store import Folder
from dampen.study import _plan, _usual
from dampen.study._training import plain


def refuse_patience(knobs: Iterable[str]) -> None:
    """Refuse a knob that needs validation rows to the very end.

    Raises:
        InputError: it is among them.
    """
    if "patience" in knobs:
        raise InputError(
            "patience can't be part of a study: its last trainings, on all rows, have no validation rows to stop by; "
            "leave it out, or use Population.fit"
        )


def check_whole(numbers: Mapping[str, tuple[int | None, int]]) -> None:
    """Refuse numbers, by name each with the least that is allowed, that are no whole ones or below it; None passes.

    Raises:
        InputError: one is.
    """
    for name, (value, least) in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InputError(f"{name} must be a whole number, {least} or larger, got {value!r}")


def check_margin(margin: float | None) -> None:
    """Refuse a margin that is no share.

    Raises:
        InputError: it is not.
    """
    if margin is not None and not 0 <= margin < 1:
        raise InputError(f"margin must be a share of the loss from 0 to below 1, got {margin!r}")


# A network of mean and variance has its own likelihood as a loss, which a study does not train with.
_TWO = (
    ". If it gives a mean and a log variance: give it the mean alone, for which dampen predict and the estimators fit "
    "one noise for all rows; or train it with a loss of your own and ask dampen.predict(network, x, variance_head=True)"
)


def check_network(model: Model, data: Data) -> None:
    """Make sure that a network answers each row with as many finite numbers as the data asks for.

    Raises:
        InputError: it does not.
    """
    network = Builder(model)(0, data.inputs, data.outputs).eval()
    rows = torch.randn(2, *data.inputs, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            outputs = network(rows)
    except Exception:
        return  # the training says more: it knows the layer
    if not isinstance(outputs, torch.Tensor):
        raise InputError(f"the network must return one tensor, it returned {type(outputs).__name__}")
    wanted = [(2, data.outputs)] + [(2,)] * (data.task == "regression")
    if tuple(outputs.shape) not in wanted:
        two = tuple(outputs.shape) == (2, 2)
        what = f"a number for each of the {data.outputs} classes" if data.task == "classification" else "one number"
        raise InputError(
            f"the network must answer each row with {what}, shape [rows, {data.outputs}]; for 2 rows it answers with "
            f"shape {list(outputs.shape)}: mend its last layer" + _TWO * (data.task == "regression" and two)
        )
    if not outputs.isfinite().all():
        raise InputError("the network's outputs are not finite before any training: look for a division or a logarithm")


def prepared(
    data: Data,
    batch_size: int | None,
    lr: float,
    schedule: str | None,
    precision: str,
    device: str,
) -> tuple[Data, tuple[float, float], dict[str, Any]]:
    """Return the data with targets of unit deviation, their scale, and the options of `Population.fit`."""
    check_whole({"batch_size": (batch_size, 1)})
    data, mean, deviation = _plan.with_unit_targets(data)
    training = {
        "batch_size": batch_size if batch_size is not None else _usual.usual_batch_size(len(data.train_rows)),
        "even_batches": True,
        "optimizer": "adamw",
        "lr": lr,
        "schedule": Schedule(schedule if schedule is not None else _usual.usual_schedule()).kind,
        "precision": precision,
        "device": device,
    }
    return data, (mean, deviation), training


def open_folder(
    out: str | Path | None, plan: _plan.Plan, resume: bool, named: Mapping[str, Setting] | None = None
) -> Folder | None:
    """Return the study's folder, made or found.

    Raises:
        InputError: it holds another study, or one that nobody asked to resume.
    """
    if out is None:
        if resume:
            raise InputError("resume needs the folder of the study: name it in out")
        return None
    folder, wanted = Folder(Path(out)), plan.document()
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"{folder.path} is a file: name a folder for the study")
    if named:
        wanted["compared"] = {name: plain(setting) for name, setting in named.items()}
    held = folder.read_json("plan.json")
    if held is None:
        if resume:
            raise InputError(f"there is no study in {folder.path} to resume: leave resume out to begin one")
        if folder.path.is_dir() and any(file.name != "budget.json" for file in folder.path.iterdir()):
            raise InputError(f"{folder.path} is not empty and holds no study: choose another folder")
        folder.write_json("plan.json", wanted)
        return folder
    if not resume:
        raise InputError(f"{folder.path} holds a study already: resume it, or choose another folder")
    if held.get("format") != _plan.FORMAT:
        raise InputError(f"{folder.path} holds a study of another version of dampen: choose another folder")
    for name in wanted:
        if name not in ("versions", "reading") and held.get(name) != wanted[name]:
            raise InputError(f"{folder.path} holds another study, its {name} differs: choose another folder")
    folder.tidy()
    return folder
