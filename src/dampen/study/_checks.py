"""How a study begins: what can't be part of it, its data and training made ready, its folder opened."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from dampen._checks import as_path, integer, is_number, truth
from dampen._io import exists, is_own, locked
from dampen.data import Data
from dampen.engine import (
    Builder,
    Model,
    WithHeads,
    batches,
    check_alike,
    check_ids,
    describe_output,
    one_row,
    outputs_notes,
    warn,
)
from dampen.engine.knobs import Setting
from dampen.errors import InputError, OutputsWarning
from dampen.study import _documents
from dampen.study._config import rows_a_step
from dampen.study._embedded import refuse_scaled_ids, with_codes
from dampen.study._phases import split
from dampen.study._plan_differences import differs
from dampen.study._protocol import Plan
from dampen.study._storage import Folder

P = ParamSpec("P")
T = TypeVar("T")
_SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte that is not UTF-8


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
        if value is not None:
            integer(name, value, least)


def check_margin(margin: float | None) -> None:
    """Refuse a margin that is not a share.

    Raises:
        InputError: it is not.
    """
    if margin is not None and not (is_number(margin) and 0 <= margin < 1):
        raise InputError(f"margin must be a share of the loss from 0 to below 1, got {margin!r}")


_TWO = (
    ". If these are a mean and a log variance: return the mean alone, for which dampen predict and the estimators fit "
    "one noise for all rows, or train them by their likelihood (loss='gaussian_nll' or 'beta_nll'); of a network that "
    "is trained already use dampen.predict(network, x, variance_head=True)"
)


def check_network(model: Model, data: Data) -> tuple[str, ...]:
    """Make sure that a network's outputs are finite and of the shape that the data's targets need.

    Returns:
        Notes on outputs that are probably not what the loss needs.

    Raises:
        InputError: they are not.
    """
    network = Builder(model)(0, data.inputs, data.outputs).eval()
    if not data.codes:  # of which the raw numbers are not what the network gets
        check_ids(network, [data.features])
    refuse_scaled_ids(network, data)
    rows = data.train.features[:2]
    if rows.is_floating_point() or len(rows) < 2:  # else numbers to embed
        rows = with_codes(torch.randn(2, *data.inputs, generator=torch.Generator().manual_seed(0)), data)
    try:
        with torch.no_grad():
            outputs = network(rows)
    except Exception:
        return ()  # the error of the training names the layer
    if not isinstance(outputs, torch.Tensor):
        raise InputError(f"the network must return one tensor, it returned {describe_output(outputs)}")
    heads = model.n if isinstance(model, WithHeads) else 1
    wanted = [(2, heads * data.outputs)] + [(2,)] * (data.task == "regression" and heads == 1)
    if tuple(outputs.shape) not in wanted:
        two = tuple(outputs.shape) == (2, 2)
        if heads > 1:
            what = "a mean and a log variance" if heads == 2 else "the median and the quantiles of 5 and 95 %"
            raise InputError(
                f"the loss takes {heads} outputs for each row, {what}, shape [rows, {heads}]; for 2 rows the network "
                f"returns shape {list(outputs.shape)}: let its factory take outputs, or change its last layer"
            )
        what = f"a number for each of the {data.outputs} classes" if data.task == "classification" else "one number"
        raise InputError(
            f"the network must return {what} for each row, shape [rows, {data.outputs}]; for 2 rows it returns shape "
            f"{list(outputs.shape)}: change its last layer" + _TWO * (data.task == "regression" and two)
        )
    check_alike(Builder(model), [rows], data.inputs, data.outputs)
    if not outputs.isfinite().all():
        raise InputError("the network's outputs are not finite before any training: look for a division or a logarithm")
    notes = outputs_notes(network, rows, data.task) if heads == 1 else ()
    if data.task == "regression":  # of a classifier's outputs the training warns
        for note in notes:
            warn(note, OutputsWarning, stacklevel=6)
    return notes


def check_batches(model: Model, plan: Plan) -> None:
    """Refuse, before anything trains, a network that can't train on a single row if a phase has a batch of one.

    Raises:
        InputError: batch normalisation is such a network.
    """
    phases = [(plan.seeds, False), (plan.confirm_seeds, True)]
    splits = [split(plan, seeds, again) for seeds, again in phases]
    sets = [part for one in splits for part in (one.of_seeds or [one.sets])]
    counts = {len(part.train_rows) for part in sets if isinstance(part, Data)}
    counts.add(len(plan.data.train_rows) + len(plan.data.validation_rows))
    size, even = rows_a_step(plan.training), plan.training.even_batches
    for n in sorted(counts):
        if any(span.stop - span.start == 1 for span in batches(n, size, even)):
            data = plan.data
            try:
                one_row(Builder(model)(0, data.inputs, data.outputs), data.train.features[:1])
            except InputError as e:
                raise InputError(f"{n} rows in batches of {size} leave one of a single row: {e}") from e
            return


def open_folder(
    out: str | Path | None, plan: Plan, resume: bool, named: Mapping[str, Setting] | None = None
) -> Folder | None:
    """Return the study's folder, made or found.

    Raises:
        InputError: it holds another study, or one, and `resume` is not given.
    """
    if out is None:
        if resume:
            raise InputError("resume needs the folder of the study: name it in out")
        return None
    folder, wanted = Folder(as_path("out", out)), plan.document()
    _check_names(folder, plan)
    if folder.path.exists() and not folder.path.is_dir():
        raise InputError(f"{folder.path} is a file: name a folder for the study")
    if named:
        wanted["compared"] = {name: setting.to_dict() for name, setting in named.items()}
    held = _documents.planned(folder)
    if held is None:
        refuse_others(folder, resume)
        folder.tidy()  # a run may have been killed before it had written its plan
        folder.write_json("plan.json", wanted)
        return folder
    refuse_taken(folder, resume)
    _refuse_another(folder, differs(held, wanted))
    folder.tidy()
    return folder


def is_of(folder: Folder, decision: Mapping[str, Any], plan: Plan) -> bool:
    """Return whether a decision that a folder keeps was made for this very plan.

    One without its plan is of an older version, and counts where a study has begun by it: plans are compared then.

    Args:
        folder: of a study that may have no plan yet: a run may have been killed before it had written one.
        decision: with the plan it was made for.
        plan: the same of this call.

    Raises:
        InputError: it was made for another one, by which a study has begun there.
    """
    begun = _documents.planned(folder) is not None
    if "plan" not in decision:
        return begun
    difference = differs(decision["plan"], plan.document())
    if begun:
        _refuse_another(folder, difference)
    return difference is None


def refuse_loss(folder: Folder, loss: str, plan: Plan) -> None:
    """Refuse to go on, with a loss that is chosen, with a study whose loss was given.

    Raises:
        InputError: one has begun in the folder.
    """
    held = _documents.planned(folder)
    if held is not None:
        wanted = plan.document()
        asked = {"data": wanted["data"], "training": wanted["training"] | {"loss": loss}}
        _refuse_another(folder, differs(held, asked))


def _refuse_another(folder: Folder, difference: str | None) -> None:
    if difference is not None:
        raise InputError(
            f"{folder.path} holds another study: {difference}; repeat the call or the command that began it, with its "
            "data and all its options, and resume (--resume), or choose another folder"
        )


def _check_names(folder: Folder, plan: Plan) -> None:
    """Refuse names that a study's files can't hold: on some systems a file's name may be any bytes.

    Raises:
        InputError: one is not UTF-8.
    """
    data = plan.data
    names = {
        "the data": [data.name, data.source, *(data.reading or {}).values()],
        "the study's folder": [folder.path.absolute()],
        "a class": data.classes or (),
    }
    for what, held in names.items():
        if any(_SURROGATE.search(str(name)) for name in held):
            raise InputError(f"the name of {what} is not UTF-8, which a study's files need: rename it")


def refuse_taken(folder: Folder, resume: bool) -> None:
    """Refuse a folder that holds a study, unless that is to be resumed, or no study and other files.

    Raises:
        InputError: it does.
    """
    if _documents.planned(folder) is None:
        refuse_others(folder, resume)
    elif not resume:
        raise InputError(f"{folder.path} holds a study already: resume it (--resume), or choose another folder")


def refuse_others(folder: Folder, resume: bool = False) -> None:
    """Make sure that a folder without a plan holds nothing else, either.

    Raises:
        InputError: it does.
    """
    others = [] if not folder.path.is_dir() else [f.name for f in folder.path.iterdir() if not is_own(f.name)]
    if {"study.json", "search.json"} & set(others):
        what = "a finished study" if "study.json" in others else "a part of a study"
        raise InputError(
            f"{folder.path} holds {what} whose plan.json is missing: it can't be resumed"
            + ", though dampen report, predict and export need no plan.json" * ("study.json" in others)
            + "; choose another folder for a new one"
        )
    if set(others) - {"budget.json", "loss.json"}:
        raise InputError(
            f"there is no study in {folder.path} to resume, and other files are there: correct its name"
            if resume
            else f"{folder.path} is not empty and holds no study: choose another folder"
        )


def one_writer(study: Callable[P, T]) -> Callable[P, T]:
    """Let a study be the only one that writes to the folder in its argument `out`, from beginning to end."""

    @functools.wraps(study)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        truth("resume", kwargs.get("resume", False))
        out: Any = kwargs.get("out")
        if out is None:
            return study(*args, **kwargs)
        folder = as_path("out", out)
        if kwargs.get("resume") and not exists(folder):
            raise InputError(f"there is no study in {folder} to resume: leave resume out to begin one")
        with locked(folder):
            return study(*args, **kwargs)

    return alone
