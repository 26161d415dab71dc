"""The rows that a study's predictions are calibrated on, in its folder: its data may change, move or be gone."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from msgspec import Meta, Struct
from torch import Tensor

from dampen import _schema
from dampen._io import save_tensors
from dampen.data import Data, Normalisation, Preprocessing, Rows, Vectoriser
from dampen.errors import InputError
from dampen.study._description import Description
from dampen.study._storage import Folder

FILE = "calibration.safetensors"
_FORMAT = 1
_TYPES = (torch.float32, torch.float64, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
_OF_ENSEMBLES = "ensembles/"


@dataclass(frozen=True)
class Unseen:
    """What the file holds.

    Args:
        description: of the data.
        rows: that the confirmation's networks have not seen: the same for all, or some for each.
        of_ensembles: rows that were left out by ensembles trained for that; none where all networks share their rows.
    """

    description: Description
    rows: tuple[Rows, ...]
    of_ensembles: tuple[Rows, ...] = ()

    def of(self, n: int) -> list[Rows]:
        """Return the rows of each of n networks; networks that share their rows get the same object."""
        return list(self.rows) if len(self.rows) > 1 else list(self.rows) * n


def write(
    folder: Folder, data: Data, sets: Data | Sequence[Data], fingerprint: str, of_ensembles: Sequence[Data] = ()
) -> None:
    """Write the validation rows of each network's data.

    Args:
        folder: the study's.
        data: with all rows that train among its training rows.
        sets: that the confirmation's networks were trained on: one for all, or one for each.
        fingerprint: of the study's data, which identifies its file.
        of_ensembles: that ensembles were trained on, one for each.
    """
    tensors: dict[str, Tensor] = {}
    raw = data.columns is None and data.scaling != "standardise"  # scaled by no row: pixels stay bytes
    parts = [sets] if isinstance(sets, Data) else sets
    for kind, each in (("", parts), (_OF_ENSEMBLES, of_ensembles)):
        for i, rows_of_seed in enumerate(each):
            rows = rows_of_seed.validation
            features = rows_of_seed.features[rows_of_seed.validation_rows] if raw else rows.features
            tensors[f"{kind}features/{i}"] = features.contiguous()
            tensors[f"{kind}targets/{i}"] = rows.targets.contiguous()
            if rows.weights_among_all is not None:
                tensors[f"{kind}weights/{i}"] = rows.weights_among_all.contiguous()
            if rows.numbers is not None:
                tensors[f"{kind}numbers/{i}"] = rows.numbers.clone()  # folds that come again share them
    about: dict[str, Any] = {"format": _FORMAT, "fingerprint": fingerprint, "sets": len(parts), "raw": raw}
    if of_ensembles:
        about["ensembles"] = len(of_ensembles)
    description = Description.of(data)
    about["description"], about["note"] = description.plain(), None
    if isinstance(description.normalisation, Normalisation):
        about["note"] = description.normalisation.note
        for name in ("mean", "std"):
            tensors[name] = getattr(description.normalisation, name).clone()  # of pixels they are one tensor
    about["digest"] = _digest(about, tensors)
    folder.write(FILE, lambda file: save_tensors(tensors, file, {"dampen": json.dumps(about)}))


def read(folder: Folder, fingerprint: str, preprocessing: Preprocessing | None) -> Unseen:
    """Read what `write` wrote.

    Args:
        folder: the study's.
        fingerprint: of the study's data.
        preprocessing: of its table.

    Raises:
        InputError: there is no such file, or it is damaged, of another study, or lacks its preprocessing.
    """
    file = folder.path / FILE
    if not file.is_file():
        raise InputError(
            f"{folder.path} has no {FILE}, on which predictions are calibrated: finish the study again with resume "
            "(dampen tune --resume), which writes it and trains nothing; one of an older version has to be made anew"
        )
    text, tensors = _schema.read_tensors(file)
    first = _schema.decode(text, _Version, file)
    if first.format != _FORMAT:
        raise InputError(f"{file} has format {first.format}, this version of dampen reads {_FORMAT}")
    about = _schema.decode(text, _About, file)
    about_fields = {name: value for name, value in json.loads(text).items() if name != "digest"}
    if about.digest != _digest(about_fields, tensors):
        raise InputError(f"{file} is damaged: its contents are not what was written")
    if about.fingerprint != fingerprint:
        raise InputError(f"{file} is of a study of other data")
    normalisation: Normalisation | Vectoriser
    if about.note is not None:
        mean, std = (_tensor(tensors, name, file) for name in ("mean", "std"))
        if not (mean.shape == std.shape and mean.isfinite().all() and std.isfinite().all() and bool((std > 0).all())):
            raise InputError(f"{file} is damaged: its mean and deviation scale no rows")
        normalisation = Normalisation(mean.float(), std.float(), about.note)
    elif preprocessing is None:
        raise InputError(f"{folder.path} has no preprocessing.json, without which a table's rows can't be read")
    else:
        normalisation = preprocessing.vectoriser
        _check_preprocessing(preprocessing, about.description, folder)
    description = about.description.with_(normalisation)

    def rows(kind: str, n: int) -> tuple[Rows, ...]:
        parts = []
        for i in range(n):
            features, targets = (_tensor(tensors, f"{kind}{what}/{i}", file) for what in ("features", "targets"))
            weights, numbers = (  # earlier versions kept none
                _tensor(tensors, name, file) if name in tensors else None
                for name in (f"{kind}weights/{i}", f"{kind}numbers/{i}")
            )
            try:
                mean = 1.0 if weights is None else float(weights.mean())
                weights = None if weights is None else weights / mean
                inputs = normalisation.apply(features) if about.raw else features
                part = Rows(inputs, targets, weights, numbers=numbers, mean_weight=mean)
            except (RuntimeError, IndexError, ValueError, TypeError):
                raise InputError(f"{file} is damaged: its rows are not of the shape that is scaled") from None
            _check_rows(part, description, file)
            parts.append(part)
        return tuple(parts)

    return Unseen(description, rows("", about.sets), rows(_OF_ENSEMBLES, about.ensembles))


class _Version(Struct, frozen=True):
    format: _schema.Count


class _Described(Struct, frozen=True, kw_only=True):
    """A description without its normalisation."""

    name: _schema.Text
    task: Literal["classification", "regression"]
    classes: Annotated[tuple[_schema.Text, ...], Meta(min_length=2)] | None
    inputs: Annotated[tuple[_schema.Size, ...], Meta(min_length=1, max_length=8)]
    outputs: _schema.Size
    rows: _schema.Count
    weighted: bool
    target: _schema.Text | None
    feature_names: tuple[_schema.Text, ...] | None

    def __post_init__(self) -> None:
        if (self.classes is None) != (self.task == "regression"):
            raise ValueError("classes have names, a regression has none")
        if self.outputs != (1 if self.classes is None else len(self.classes)):
            raise ValueError("outputs: there is one for each class, or one for numbers")

    def with_(self, normalisation: Normalisation | Vectoriser) -> Description:
        """Return the description."""
        return Description(
            **{name: getattr(self, name) for name in self.__struct_fields__}, normalisation=normalisation
        )


class _About(Struct, frozen=True, kw_only=True):
    """The contents of the header."""

    format: _schema.Count
    fingerprint: _schema.Fingerprint
    sets: Annotated[int, Meta(ge=1, le=100_000)]
    ensembles: Annotated[int, Meta(ge=0, le=100_000)] = 0
    raw: bool
    description: _Described
    note: _schema.Text | None
    digest: _schema.Fingerprint


def _tensor(tensors: Mapping[str, Tensor], name: str, file: Path) -> Tensor:
    if name not in tensors:
        raise InputError(f"{file} is damaged: it lacks {name}")
    t = tensors[name]
    if t.dtype not in _TYPES:
        raise InputError(f"{file} is damaged: {name} is of type {t.dtype}")
    return t


def _check_rows(rows: Rows, description: Description, file: Path) -> None:
    """Make sure that rows match their description.

    Raises:
        InputError: their shape differs, they hold numbers that no study has, or there are none.
    """
    features, targets = rows.features, rows.targets
    if tuple(features.shape[1:]) != description.inputs or targets.shape != features.shape[:1] or not len(targets):
        raise InputError(f"{file} is damaged: its rows are not of the shape that the study's networks take")
    if features.is_floating_point() and not features.isfinite().all():
        raise InputError(f"{file} is damaged: its rows hold what is no number")
    if description.classes is None:
        whole = targets.is_floating_point() and bool(targets.isfinite().all())
    else:
        whole = targets.dtype == torch.int64 and int(targets.min()) >= 0 and int(targets.max()) < description.outputs
    if not whole:
        raise InputError(f"{file} is damaged: its targets are not of the study's task")
    w, numbers = rows.weights, rows.numbers
    if numbers is not None and (numbers.shape != targets.shape or numbers.dtype != torch.int64):
        raise InputError(f"{file} is damaged: its rows have no numbers of their own")
    if w is None:
        return
    known = w.shape == targets.shape and w.dtype == torch.float64 and bool(w.isfinite().all())
    if not known or bool((w < 0).any()) or not w.any() or not rows.mean_weight > 0:
        raise InputError(f"{file} is damaged: its weights are not those of its rows")


def _check_preprocessing(preprocessing: Preprocessing, description: _Described, folder: Folder) -> None:
    made = preprocessing.vectoriser
    same = (preprocessing.task, preprocessing.classes, made.outputs) == (
        description.task,
        description.classes,
        description.outputs,
    )
    if not same or (made.width,) != description.inputs:
        raise InputError(f"{folder.path / 'preprocessing.json'} and {FILE} are of different tables")


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(str((name, t.dtype, tuple(t.shape))).encode())
        digest.update(t.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
