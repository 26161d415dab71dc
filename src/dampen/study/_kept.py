"""The networks of a study that a folder keeps, and rows that they have not seen."""

import ast
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dampen.data import NAMES, Data, Incoming, Preprocessing, Rows, load
from dampen.errors import InputError
from dampen.knobs import Setting
from dampen.models import MLP, Linear
from dampen.population import INSERTED, Model, Population, WithDropout, insert_dropout
from dampen.search import Choice, Space
from dampen.store import Folder, fingerprint
from dampen.study import _metrics, _plan
from dampen.study._run import setting_of
from dampen.study._winner import Winner, winner_of

_BUILDERS: dict[str, type] = {"MLP": MLP, "Linear": Linear}


@dataclass(frozen=True)
class Kept:
    """A finished study, read from its folder.

    Args:
        folder: where it is.
        document: what it found, as `Study.document` tells it.
        data: what it was made on; a regression target has mean 0 and deviation 1.
        target_scale: mean and deviation of a regression target before that.
        setting: the recommended one.
        networks: with that setting, one for each seed, trained on training and validation rows; the first is the one
            in `model.safetensors`.
        unseen: networks with that setting from the study's confirmation, each with rows that took no part in its
            training: what temperature, noise and thresholds are fitted on.
        winner: the first of the networks as `Study.winner` has it.
        preprocessing: of raw tables with the columns that it was made on; None where that was no table.
    """

    folder: Path
    document: dict[str, Any]
    data: Data
    target_scale: tuple[float, float]
    setting: Setting
    networks: tuple[nn.Module, ...]
    unseen: tuple[tuple[nn.Module, Rows], ...]
    winner: Winner
    preprocessing: Preprocessing | None = None


def open_study(
    folder: str | Path, data: Data | None = None, model: Model | None = None, data_dir: str | Path | None = None
) -> Kept:
    """Read a finished study from its folder; nothing is trained.

    Args:
        folder: where `tune` or `compare` kept it.
        data: what it was made on; by default loaded again by its name.
        model: what made its network; dampen's own are made again by themselves.
        data_dir: where data is looked for that has to be loaded, as in `load`.

    Raises:
        InputError: there is no finished study, other data, a network that is not dampen's own without `model`, or
            checkpoints that are gone or damaged.
    """
    place = Folder(Path(folder))
    document = place.read_json("study.json")
    if document is None:
        raise InputError(f"{folder} holds no finished study: there is no study.json; dampen tune --resume finishes one")
    plan = document["plan"]
    model = model if model is not None else _builder(plan["model"])
    if plan["model"].endswith(INSERTED) and not isinstance(model, WithDropout):
        model = insert_dropout(model)
    data = data if data is not None else _data(plan, data_dir)
    data, *scale = _plan.with_unit_targets(data)
    if fingerprint(data) != plan["data"]["fingerprint"]:
        raise InputError(
            f"the data {data.name!r} is not what the study in {folder} was made on: its rows or its splits differ"
        )
    setting = setting_of(document["recommended"])
    training = _training(plan["training"])
    last = _population(place, "test", model)
    rows = _plan.training_and_validation_rows(data)
    last.prepare(replace(rows, test_rows=rows.test_rows[:0]), epochs=plan["epochs"], **training)
    confirmed = _population(place, "confirmation", model)
    split = _plan.split(_as_plan(plan, data, tuple(scale), training), confirmed.seeds, again=True)  # type: ignore[arg-type]
    confirmed.prepare(split.sets, epochs=plan["epochs"], **training)
    judging = split.judging if isinstance(split.judging, list) else [split.judging] * len(confirmed.seeds)
    for population in (last, confirmed):
        if setting not in population.settings:
            raise InputError(f"the checkpoints in {folder} have no member with the recommended setting")
    networks = tuple(last.member(setting, seed).float() for seed in last.seeds)
    _check(networks[0], place)
    unseen = zip((confirmed.member(setting, seed).float() for seed in confirmed.seeds), judging, strict=True)
    trained = training | {"device": plan["training"]["device"]}
    winner = winner_of(last, plan["model"], rows, (scale[0], scale[1]), setting, plan["epochs"], trained)
    preprocessing = place.read_json("preprocessing.json")
    return Kept(
        Path(folder),
        document,
        data,
        (scale[0], scale[1]),
        setting,
        networks,
        tuple(unseen),
        winner,
        None if preprocessing is None else Preprocessing.from_document(preprocessing),
    )


def inputs_of(kept: Kept, data: Data | Incoming, rows: torch.Tensor) -> torch.Tensor:
    """Return rows of any data as the study's networks take them: normalised as their training rows were.

    Raises:
        InputError: rows of another shape, or of another table.
    """
    if isinstance(data, Incoming):
        return data.inputs_of(rows)
    if data.columns != kept.data.columns:  # its numbers would stand for other levels
        raise InputError(
            f"{data.name!r} is not the table that the study was made on: other tables of its columns are read by what "
            "the study keeps of its preprocessing (Kept.preprocessing.read)"
        )
    if data.inputs != kept.data.inputs:
        raise InputError(
            f"a row of {data.name!r} has shape {list(data.inputs)}, the study's networks take {list(kept.data.inputs)}"
        )
    return _plan.training_and_validation_rows(kept.data).normalisation.apply(data.features[rows])


def _builder(name: str) -> Model:
    """Make dampen's own builder from what `repr` says of it."""
    try:
        call = ast.parse(name, mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        values = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
        return _BUILDERS[call.func.id](**values)
    except (SyntaxError, ValueError, AssertionError, KeyError, TypeError):
        raise InputError(
            f"the study's network is {name}, none of dampen's own: name what makes it with --model MODULE:FUNCTION, or "
            "give model"
        ) from None


def _data(plan: dict[str, Any], data_dir: str | Path | None) -> Data:
    where: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    name, source = plan["data"]["name"], plan["data"]["source"]
    reading = plan.get("reading") or {"source": name if name in NAMES or not os.path.isdir(source) else source}
    if reading["source"] not in NAMES and not os.path.exists(reading["source"]) and plan.get("reading") is None:
        raise InputError(
            f"the study was made on data in memory, {name!r}, on which predictions are calibrated: give it to "
            "open_study; dampen predict and trust take studies of named data and of files"
        )
    try:
        return load(**reading | where)
    except InputError as e:
        raise InputError(
            f"the data that the study was made on, {source}, can't be read again, and predictions are calibrated on "
            f"it: {e}"
        ) from None


def _training(written: dict[str, str]) -> dict[str, Any]:
    """Return what `Population.fit` was told, as far as a network's answers depend on it."""
    return {
        "batch_size": int(written["batch_size"]),
        "optimizer": written["optimizer"],
        "lr": float(written["lr"]),
        "schedule": written.get("schedule", "constant"),
        "precision": written["precision"],
    }


def _population(place: Folder, phase: str, model: Model) -> Population:
    folder = place.path / "checkpoints" / phase
    if not (folder / "population.safetensors").is_file():
        raise InputError(f"{folder} has no checkpoint: predictions need the folder as dampen tune left it")
    return Population.load(folder, model)


def _as_plan(written: dict[str, Any], data: Data, scale: tuple[float, float], training: dict[str, Any]) -> _plan.Plan:
    """Return a plan that splits the rows as the study's did; it has no search."""
    return _plan.Plan(
        model=written["model"],
        data=data,
        target_scale=scale,
        metric=_metrics.find(written["metric"], data.task),
        space=Space({"weight_decay": Choice([0.0])}),
        search=written["search"],
        brackets=(),
        seeds=tuple(written["seeds"]),
        epochs=written["epochs"],
        confirmed=written["confirmed"],
        confirm_seeds=tuple(written["confirm_seeds"]),
        scheme=written["scheme"],
        seed=written["seed"],
        training=training,
        budget=written["budget"],
    )


def _check(network: nn.Module, place: Folder) -> None:
    """Make sure that the checkpoint's first network is the one that the study gave out.

    Raises:
        InputError: it is not, or the file can't be read.
    """
    from safetensors import SafetensorError, safe_open

    file = place.path / "model.safetensors"
    try:
        with safe_open(file, "pt") as held:
            about = held.metadata() or {}
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as e:
        raise InputError(f"{file} can't be read: {e}") from e
    mine = network.state_dict()
    same = mine.keys() == tensors.keys() and all(torch.equal(mine[name], tensors[name].float()) for name in mine)
    if not same or "setting" not in about or json.loads(about["setting"]) is None:
        raise InputError(f"{file} and the study's checkpoints are of different networks")
