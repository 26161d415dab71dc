"""The results of a finished study that a folder keeps."""

import copy
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
from msgspec import Meta, Struct
from torch import nn

from dampen import _schema
from dampen._checks import as_path
from dampen._io import exists, shortened
from dampen.data import NAMES, Data, Preprocessing, Rows, load, training_and_validation_rows, with_unit_targets
from dampen.engine import INSERTED, Model, Population, WithDropout, insert_dropout, with_heads
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.models import Linear, mlp
from dampen.search import Ranked, Training
from dampen.study import _calibration_rows, _config, _documents
from dampen.study._best_model import Winner, winner_of, winner_without_rows
from dampen.study._calibration_ensembles import Ensemble, ensembles_of
from dampen.study._curves import read_curves
from dampen.study._given import check_data
from dampen.study._predictor import Predictor
from dampen.study._protocol import FOLDS
from dampen.study._runner import CALIBRATION
from dampen.study._saved_verdict import verdict_of
from dampen.study._storage import POPULATION, Folder, fingerprint
from dampen.study._verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

_LONGEST_NAME = 10_000  # letters of what a network is called


class _Origin:
    """The data that a study was made on: read again at its first use.

    Args:
        folder: the study's.
        plan: the study's, as its document has it.
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
        same = same_data(data, self._plan)
        if same is None:
            raise InputError(
                f"the data {data.name!r} is not what the study in {self._folder} was made on: its rows or its splits "
                "differ"
            )
        return same


def same_data(data: Data, plan: Mapping[str, Any]) -> Data | None:
    """Return data as a study had it, whole numbers unscaled where its network embeds them; None for other data."""
    for candidate in filter(None, (data, data.whole())):
        scaled, *_ = with_unit_targets(candidate)
        if fingerprint(scaled) == plan["data"]["fingerprint"]:
            return scaled
    return None


class SavedResults:
    """What a finished study found, read from its folder: `study.json` at once, all else when it is first needed.

    Args:
        folder: where `tune` or `compare` kept it.
        data: what it was made on; by default read again by its name or file when it is needed.
        model: what made its network; dampen's own are made again by themselves.
        data_dir: where data is looked for that has to be loaded, as in `load`.

    Raises:
        InputError: there is no finished study, it is damaged, or other data.
    """

    def __init__(
        self,
        folder: str | Path,
        data: Data | None = None,
        model: Model | None = None,
        data_dir: str | Path | None = None,
    ):
        place = as_path("folder", folder)
        if data is not None:
            check_data(data)
        if data_dir is not None and not as_path("data_dir", data_dir).is_dir():
            raise InputError(f"there is no folder {data_dir} (data_dir); correct the name")
        self._place, self._document, self._given = Folder(place), finished(place), model
        self._plan = self._document["plan"]
        mean, deviation = self._plan["target_scale"]
        self.folder, self.target_scale = self._place.path, (float(mean), float(deviation))
        self._origin = _Origin(self.folder, self._plan, data, data_dir)

    @property
    def name(self) -> str:
        """What the data is called."""
        return str(self._document["data"])

    @property
    def data(self) -> Data:
        """What the study was made on, read again at its first use; a regression target has mean 0.

        Raises:
            InputError: it is gone, has changed, or was in memory.
        """
        return self._origin.get()

    def made_on(self, data: object) -> bool:
        """Return whether data is `data`, that very object; nothing is read for it."""
        return data is not None and data is self._origin.read

    @property
    def reading(self) -> Mapping[str, Any]:
        """How the data was read: arguments of `load`; empty for data in memory."""
        return self._plan.get("reading") or {}

    @cached_property
    def verdict(self) -> Verdict:
        """Which setting and length, how sure, against what, in the words of its folder.

        Raises:
            InputError: the study is of an older version.
        """
        self._check_version()
        return verdict_of(self._document)

    @property
    def recommended(self) -> Training:
        """Setting and length."""
        return Training(self._setting, self._epochs)

    @property
    def test(self) -> dict[str, dict[str, Any]]:
        """Metrics on the test rows."""
        return copy.deepcopy(self._document["test"])

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self._document["seconds"]

    @property
    def member_epochs(self) -> float:
        """How often members passed over the training rows."""
        return self._document["trained"]["member_epochs"]

    @property
    def ranked(self) -> tuple[Ranked, ...]:
        """What each rung of the search found."""
        return tuple(Ranked.from_document(rung) for rung in self.rungs())

    def rungs(self) -> list[dict[str, Any]]:
        """Return what each rung of the search found, as JSON can hold it.

        Raises:
            InputError: `search.json` is damaged, or is not there.
        """
        rungs = _documents.progress(self._place, self._document["metric"])
        if not rungs and self._document["plan"]["space"]:
            raise InputError(
                f"{self._place.path / _documents.PROGRESS} is missing: put it back, or run the study again"
            )
        return rungs

    def frame(self) -> "pd.DataFrame":
        """Return all learning curves.

        Raises:
            InputError: they are damaged, or the study is of an older version.
        """
        self._check_version()
        return read_curves(self._place)

    def sentences(self) -> list[str]:
        """Return the verdict in words, and what the test rows add to it."""
        return list(self._document["sentences"])

    def document(self) -> dict[str, Any]:
        """Return what was found as JSON can hold it."""
        return copy.deepcopy(self._document)

    @cached_property
    def preprocessing(self) -> Preprocessing | None:
        """How raw rows become the networks' inputs; None where the data is no table.

        Raises:
            InputError: it is damaged.
        """
        return Preprocessing.read_document(self.folder / "preprocessing.json")

    @property
    def population(self) -> Population:
        """Networks with the recommended setting, trained on training and validation rows.

        Raises:
            InputError: as for `predictor`.
        """
        return self._opened[1]

    @property
    def predictor(self) -> Predictor:
        """The networks that predict, and those that predictions are calibrated with.

        Raises:
            InputError: the network is not dampen's own and there is no `model`, or checkpoints or rows to calibrate on
                are gone or damaged.
        """
        return self._opened[0]

    def winner(self) -> Winner:
        """Return the first of the networks, and all that its training followed from; without rows where they are gone.

        Raises:
            InputError: as for `predictor`.
        """
        last = self.target_scale, self._setting, self._epochs, _config.read(self._plan["training"])
        predictor, model = self.predictor, self._plan["model"]
        try:
            rows = training_and_validation_rows(self.data)
        except InputError as e:
            examples = predictor.unseen[0][1].features
            return winner_without_rows(self.population, model, predictor.description, str(e), examples, *last)
        return winner_of(self.population, model, rows, *last)

    @property
    def _setting(self) -> Setting:
        return Setting.from_dict(self._document["recommended"])

    @property
    def _epochs(self) -> int:
        return self._document["length"]["epochs"] if "length" in self._document else self._plan["epochs"]

    def _check_version(self) -> None:
        if "length" not in self._document or "lengths" not in self._plan:
            raise InputError(f"{self.folder} holds a study of an older version, which has no report: make it anew")

    @cached_property
    def _opened(self) -> tuple[Predictor, Population]:
        place, plan, setting = self._place, self._plan, self._setting
        model = self._given if self._given is not None else _builder(plan["model"])
        if plan["model"].endswith(INSERTED) and not isinstance(model, WithDropout):
            model = insert_dropout(model)
        loss = plan["training"].get("loss")
        model = with_heads(model, loss)
        unseen = _calibration_rows.read(place, plan["data"]["fingerprint"], self.preprocessing)
        some = _batch(unseen.rows[0], int(plan["training"]["batch_size"]))
        names = self._document.get("checkpoints", {})  # older studies have one population in each phase
        last, confirmed = (
            _population(place, names.get(phase, phase), model, some) for phase in ("test", "confirmation")
        )
        about = unseen.description
        for population in (last, confirmed):
            if population.row not in (None, (about.inputs, about.outputs)):
                raise InputError(
                    f"{place.path / _calibration_rows.FILE} and the study's checkpoints are of rows of different shapes"
                )
            if setting not in population.settings:
                raise InputError(f"the checkpoints in {place.path} have no member with the recommended setting")
        if len(unseen.rows) not in (1, len(confirmed.seeds)):
            raise InputError(
                f"{place.path / _calibration_rows.FILE} and the study's checkpoints are of different seeds"
            )
        networks = tuple(last.member(setting, seed).float() for seed in last.seeds)
        _check(networks[0], place)
        judged = (confirmed.member(setting, seed).float() for seed in confirmed.seeds)
        if about.task == "classification" and self.target_scale != (0, 1):
            raise InputError(f"{place.path / 'study.json'} is damaged: classes have no scale")

        def left_out() -> list[Ensemble]:
            return _left_out(place, model, setting, unseen.of_ensembles, some)

        return Predictor(
            description=about,
            target_scale=self.target_scale,
            setting=setting,
            trained=lambda: networks,
            unseen=tuple(zip(judged, unseen.of(len(confirmed.seeds)), strict=True)),
            scheme=str(plan.get("scheme", "")),
            folds=float(plan.get("folds_a_round", FOLDS)),
            left_out=left_out if unseen.of_ensembles else None,
            loss=loss,
        ), last


def _left_out(place: Folder, model: Model, setting: Setting, rows: Sequence[Rows], some: Rows) -> list[Ensemble]:
    """Return the ensembles that were trained for calibration, with the rows that each has not seen."""
    population = _population(place, CALIBRATION, model, some)
    if setting not in population.settings or len(population.seeds) % len(rows):
        raise InputError(f"{place.path / _calibration_rows.FILE} and the study's checkpoints are of different networks")
    return ensembles_of(population, setting, list(rows))


def finished(folder: str | Path) -> dict[str, Any]:
    """Return what a finished study found.

    Raises:
        InputError: there is none, or its document is damaged.
    """
    document = _documents.finished(Folder(as_path("folder", folder)))
    if document is None:
        raise InputError(f"{folder} holds no finished study: there is no study.json; dampen tune --resume finishes one")
    return document


def _batch(rows: Rows, n: int) -> Rows:
    """Return up to n rows, but two where there is one: networks that norm batches refuse a single one."""
    at = torch.arange(min(n, max(len(rows), 2))) % len(rows)
    return Rows(rows.features[at], rows.targets[at])


def of_own_network(plan: Mapping[str, Any]) -> bool:
    """Return whether a study's network is one of dampen's own, which need no `model`."""
    try:
        _builder(plan["model"])
    except InputError:
        return False
    return True


def _builder(name: str) -> Model:
    """Make dampen's own builder from its `repr`."""
    try:
        if len(name) > _LONGEST_NAME:
            raise ValueError
        kind, values = _schema.call(name)
        if kind == "Linear":
            return Linear(**values)
        assert kind == "MLP"
        description = _schema.converted(values, _Mlp, "the network's description")
        shape = {"dropout": description.dropout, "activation": description.activation, "scaling": description.scaling}
        return mlp(*description.hidden, **shape)
    except (ValueError, AssertionError, TypeError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(
            f"the study's network is {shortened(name)}, not one of dampen's: name its factory with --model "
            "MODULE:FUNCTION, or give model"
        ) from None


class _Mlp(Struct, frozen=True):
    """The arguments in the `repr` of an `MLP`; each layer's size is compared with the checkpoint before it is made."""

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
            f"the study was made on data in memory, {name!r}, of which its folder has no copy: load_study(folder, "
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


def _population(place: Folder, phase: str, model: Model, rows: Rows) -> Population:
    """Load a population; some rows show where its network drops units, so that members have the setting's rates.

    Raises:
        InputError: it is not there, damaged, or its network does not take the rows.
    """
    folder = place.path / "checkpoints" / phase
    if not (folder / POPULATION).is_file():
        raise InputError(f"{folder} has no checkpoint: predictions need the folder as dampen tune left it")
    try:
        return Population.load(folder, model, rows)
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
    state = network.state_dict()
    same = state.keys() == tensors.keys() and all(torch.equal(state[name], tensors[name].float()) for name in state)
    if not same or "setting" not in about or _schema.decode(about["setting"], _schema.Setting, file) is None:
        raise InputError(f"{file} and the study's checkpoints are of different networks")
