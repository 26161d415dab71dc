"""The networks of a study that a folder keeps, and rows that they have not seen."""

import ast
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta, Struct
from torch import nn

from dampen import _schema
from dampen._io import exists, shortened
from dampen.data import NAMES, Data, Incoming, Preprocessing, Rows, load
from dampen.engine import INSERTED, Model, Population, WithDropout, insert_dropout
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.models import Linear, mlp
from dampen.study import _calibration_rows, _documents, _protocol
from dampen.study._best_model import Winner, winner_of, winner_without_rows
from dampen.study._calibration_ensembles import Ensemble, ensembles_of
from dampen.study._description import Description
from dampen.study._results import finished
from dampen.study._runner import CALIBRATION
from dampen.study._storage import Folder, fingerprint
from dampen.study._training import setting_of

_LONGEST_NAME = 10_000  # letters of what a network is called


class _Origin:
    """The data that a study was made on: read again when somebody first asks for it.

    Args:
        folder: the study's.
        plan: the study's, as its document tells it.
        data: what it was made on, if somebody has it at hand.
        data_dir: where data is looked for that has to be loaded.

    Raises:
        InputError: other data.
    """

    def __init__(self, folder: Path, plan: dict[str, Any], data: Data | None, data_dir: str | Path | None):
        self._folder, self._plan, self._data_dir = folder, plan, data_dir
        self.read = None if data is None else self._checked(data)

    def get(self) -> Data:
        """Return the data.

        Raises:
            InputError: it is gone, or has changed.
        """
        if self.read is None:
            plan, reading = self._plan, self._plan.get("reading") or {}
            loaded = _load(plan, self._data_dir)
            if not reading.get("normalise", True) and same_data(loaded, plan) is None:
                # whole numbers that the file holds as reals: they were read as a table, and embedded
                as_table = {name: value for name, value in reading.items() if name != "normalise"}
                loaded = _load(plan | {"reading": as_table}, self._data_dir)
            self.read = self._checked(loaded)
        return self.read

    def _checked(self, data: Data) -> Data:
        found = same_data(data, self._plan)
        if found is None:
            raise InputError(
                f"the data {data.name!r} is not what the study in {self._folder} was made on: its rows or its splits "
                "differ"
            )
        return found


def same_data(data: Data, plan: Mapping[str, Any]) -> Data | None:
    """Return data as a study had it, whole numbers unscaled where its network embeds them; None for other data."""
    for one in filter(None, (data, data.whole())):
        found, *_ = _protocol.with_unit_targets(one)
        if fingerprint(found) == plan["data"]["fingerprint"]:
            return found
    return None


@dataclass(frozen=True)
class Kept:
    """A finished study, read from its folder.

    Args:
        folder: where it is.
        document: what it found, as `Study.document` tells it.
        description: what its data was like; its rows are needed for `data` and `winner` alone.
        target_scale: mean and deviation of a regression target; that of `data` and `unseen` has mean 0 and deviation 1.
        setting: the recommended one.
        networks: with that setting, one for each seed, trained on training and validation rows; the first is the one
            in `model.safetensors`.
        unseen: networks with that setting from the study's confirmation, each with rows that took no part in its
            training: what temperature, noise and thresholds are fitted on.
        preprocessing: of raw tables with the columns that it was made on; None where that was no table.
        rows_of_ensembles: that `ensembles` have not seen; none where a part was held out, and in older studies.
    """

    folder: Path
    document: dict[str, Any]
    description: Description
    target_scale: tuple[float, float]
    setting: Setting
    networks: tuple[nn.Module, ...]
    unseen: tuple[tuple[nn.Module, Rows], ...]
    preprocessing: Preprocessing | None
    rows_of_ensembles: tuple[Rows, ...]
    _origin: _Origin
    _last: Population
    _model: Model

    @property
    def data(self) -> Data:
        """What the study was made on, read again when it is first asked for; a regression target has mean 0.

        Raises:
            InputError: it is gone, has changed, or was in memory.
        """
        return self._origin.get()

    def made_on(self, data: object) -> bool:
        """Say whether data is `data`, that very object; nothing is read for it."""
        return data is not None and data is self._origin.read

    @property
    def scheme(self) -> str:
        """How rows were kept unseen: `folds` or `held-out`."""
        return str(self.document["plan"].get("scheme", ""))

    @cached_property
    def ensembles(self) -> list[Ensemble]:
        """As many networks as `networks` each, with rows that none of them has seen.

        Raises:
            InputError: their checkpoint is gone or damaged.
        """
        if self.rows_of_ensembles:
            place = Folder(self.folder)
            population = _population(place, CALIBRATION, self._model)
            population.look(_batch(self.rows_of_ensembles[0], int(self.document["plan"]["training"]["batch_size"])))
            if self.setting not in population.settings or len(population.seeds) % len(self.rows_of_ensembles):
                raise InputError(
                    f"{place.path / _calibration_rows.FILE} and the study's checkpoints are of different networks"
                )
            return ensembles_of(population, self.setting, list(self.rows_of_ensembles))
        groups: dict[int, list[nn.Module]] = {}
        for network, rows in self.unseen:
            groups.setdefault(id(rows), []).append(network)
        by_id = {id(rows): rows for _, rows in self.unseen}
        return [(tuple(networks), by_id[key]) for key, networks in groups.items()]

    @cached_property
    def winner(self) -> Winner:
        """The first of the networks as `Study.winner` has it; without rows where they are gone or have changed."""
        plan = self.document["plan"]
        epochs = self.document["length"]["epochs"] if "length" in self.document else plan["epochs"]
        last = self.target_scale, self.setting, epochs, _documents.training_of(plan)
        try:
            rows = _protocol.training_and_validation_rows(self.data)
        except InputError as e:
            examples = self.unseen[0][1].features
            return winner_without_rows(self._last, plan["model"], self.description, str(e), examples, *last)
        return winner_of(self._last, plan["model"], rows, *last)


def open_study(
    folder: str | Path, data: Data | None = None, model: Model | None = None, data_dir: str | Path | None = None
) -> Kept:
    """Read a finished study from its folder; nothing is trained, and the data that it was made on is not needed.

    Args:
        folder: where `tune` or `compare` kept it.
        data: what it was made on; by default read again by its name or file when it is asked for.
        model: what made its network; dampen's own are made again by themselves.
        data_dir: where data is looked for that has to be loaded, as in `load`.

    Raises:
        InputError: there is no finished study, other data, a network that is not dampen's own without `model`, or
            checkpoints or rows to calibrate on that are gone or damaged.
    """
    if data_dir is not None and not Path(data_dir).is_dir():
        raise InputError(f"there is no folder {data_dir} (data_dir); correct the name")
    place = Folder(Path(folder))
    document = finished(folder)
    plan = document["plan"]
    model = model if model is not None else _builder(plan["model"])
    if plan["model"].endswith(INSERTED) and not isinstance(model, WithDropout):
        model = insert_dropout(model)
    origin = _Origin(place.path, plan, data, data_dir)
    preprocessing = Preprocessing.read_document(place.path / "preprocessing.json")
    unseen = _calibration_rows.read(place, plan["data"]["fingerprint"], preprocessing)
    setting = setting_of(document["recommended"])
    some = _batch(unseen.rows[0], int(plan["training"]["batch_size"]))
    names = document.get("checkpoints", {})  # older studies have one population in each phase
    last, confirmed = (_population(place, names.get(phase, phase), model) for phase in ("test", "confirmation"))
    about = unseen.description
    for population in (last, confirmed):
        if population.row not in (None, (about.inputs, about.outputs)):
            raise InputError(
                f"{place.path / _calibration_rows.FILE} and the study's checkpoints are of rows of different shapes"
            )
        _look(population, some, place)
        if setting not in population.settings:
            raise InputError(f"the checkpoints in {folder} have no member with the recommended setting")
    if len(unseen.rows) not in (1, len(confirmed.seeds)):
        raise InputError(f"{place.path / _calibration_rows.FILE} and the study's checkpoints are of different seeds")
    networks = tuple(last.member(setting, seed).float() for seed in last.seeds)
    _check(networks[0], place)
    judged = (confirmed.member(setting, seed).float() for seed in confirmed.seeds)
    mean, deviation = plan["target_scale"]
    if about.task == "classification" and (mean, deviation) != (0, 1):
        raise InputError(f"{place.path / 'study.json'} is damaged: classes have no scale")
    return Kept(
        place.path,
        document,
        unseen.description,
        (mean, deviation),
        setting,
        networks,
        tuple(zip(judged, unseen.of(len(confirmed.seeds)), strict=True)),
        preprocessing,
        unseen.of_ensembles,
        origin,
        last,
        model,
    )


def inputs_of(kept: Kept, data: Data | Incoming, rows: torch.Tensor) -> torch.Tensor:
    """Return rows of any data as the study's networks take them: normalised as their training rows were.

    Raises:
        InputError: rows of another shape, or of another table.
    """
    columns = None if kept.preprocessing is None else kept.preprocessing.vectoriser.columns
    if isinstance(data, Incoming):
        if columns is not None:
            return data.inputs_of(rows)
        inputs = tuple(data.features.shape[1:])
    elif data.columns == columns:
        inputs = data.inputs
    else:  # its numbers would stand for other levels
        raise InputError(
            f"{data.name!r} is not the table that the study was made on, {kept.description.name!r}: give a table file "
            "with that one's columns"
        )
    if inputs != kept.description.inputs:
        raise InputError(
            f"a row of {data.name!r} has shape {list(inputs)}, the study's networks take "
            f"{list(kept.description.inputs)}"
        )
    return kept.description.normalisation.apply(data.features[rows])


def _batch(rows: Rows, n: int) -> Rows:
    """Return up to n rows, but two where there is one: networks that norm batches refuse a single one."""
    at = torch.arange(min(n, max(len(rows), 2))) % len(rows)
    return Rows(rows.features[at], rows.targets[at])


def _builder(name: str) -> Model:
    """Make dampen's own builder from what `repr` says of it."""
    try:
        if len(name) > _LONGEST_NAME:
            raise ValueError
        call = ast.parse(name, mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        values = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
        if call.func.id == "Linear":
            return Linear(**values)
        assert call.func.id == "MLP"
        described = _schema.converted(values, _Mlp, "the network's description")
        shape = {"dropout": described.dropout, "activation": described.activation, "scaling": described.scaling}
        return mlp(*described.hidden, **shape)
    except (SyntaxError, ValueError, AssertionError, TypeError, MemoryError, RecursionError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(
            f"the study's network is {shortened(name)}, none of dampen's own: name what makes it with --model "
            "MODULE:FUNCTION, or give model"
        ) from None


def of_own_network(plan: Mapping[str, Any]) -> bool:
    """Return whether a study's network is one of dampen's own, which need no `model`."""
    try:
        _builder(plan["model"])
    except InputError:
        return False
    return True


class _Mlp(Struct, frozen=True):
    """What `repr` says of an `MLP`; each layer's size is compared with the checkpoint before it is made."""

    hidden: tuple[Annotated[int, Meta(ge=1, le=10_000_000)], ...]
    dropout: tuple[_schema.Share, ...]
    activation: str = "relu"
    scaling: bool = False


def _load(plan: dict[str, Any], data_dir: str | Path | None) -> Data:
    where: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    name, source = plan["data"]["name"], plan["data"]["source"]
    reading = plan.get("reading") or {"source": name if name in NAMES or not os.path.isdir(source) else source}
    if reading["source"] not in NAMES and not os.path.exists(reading["source"]) and plan.get("reading") is None:
        raise InputError(
            f"the study was made on data in memory, {name!r}, of which its folder has no copy: open_study(folder, "
            "data) takes it"
        )
    for path in (reading["source"], reading.get("test")):
        if (
            path is not None
            and path not in NAMES
            and exists(Path(path))
            and not (os.path.isfile(path) or os.path.isdir(path))
        ):
            raise InputError(f"the data that the study was made on, {path}, is neither a file nor a folder")
    try:
        return load(**reading | where)
    except InputError as e:
        raise InputError(f"the data that the study was made on, {source}, can't be read again: {e}") from None


def _population(place: Folder, phase: str, model: Model) -> Population:
    folder = place.path / "checkpoints" / phase
    if not (folder / "population.safetensors").is_file():
        raise InputError(f"{folder} has no checkpoint: predictions need the folder as dampen tune left it")
    return Population.load(folder, model)


def _look(population: Population, rows: Rows, place: Folder) -> None:
    """Let a population see some rows, so that members get the rates of their dropout layers.

    Raises:
        InputError: its network does not take them.
    """
    try:
        population.look(rows)
    except (RuntimeError, ValueError, TypeError, IndexError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(
            f"the network of the study in {place.path} does not take the rows that it was made on: {shortened(e)}"
        ) from None


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
    if not same or "setting" not in about or _schema.decode(about["setting"], _schema.Setting, file) is None:
        raise InputError(f"{file} and the study's checkpoints are of different networks")
