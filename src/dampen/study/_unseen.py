"""The rows that a study's predictions are calibrated on, in its folder: its data may change, move or be gone."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dampen.data import Data, Normalisation, Preprocessing, Rows
from dampen.errors import InputError
from dampen.store import Folder
from dampen.study._description import Description

FILE = "calibration.safetensors"
_FORMAT = 1
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
        fingerprint: of the study's data, by which its file is told from another study's.
        of_ensembles: that ensembles were trained on, one for each.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    raw = data.columns is None and data.scaling != "standardise"  # scaled by no row: pixels stay bytes
    parts = [sets] if isinstance(sets, Data) else sets
    for kind, each in (("", parts), (_OF_ENSEMBLES, of_ensembles)):
        for i, one in enumerate(each):
            rows = one.validation
            features = one.features[one.validation_rows] if raw else rows.features
            tensors[f"{kind}features/{i}"] = features.contiguous()
            tensors[f"{kind}targets/{i}"] = rows.targets.contiguous()
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
    folder.write(FILE, lambda file: save_file(tensors, file, {"dampen": json.dumps(about)}))


def read(folder: Folder, fingerprint: str, preprocessing: Preprocessing | None) -> Unseen:
    """Read what `write` wrote.

    Args:
        folder: the study's.
        fingerprint: of the study's data.
        preprocessing: of its table.

    Raises:
        InputError: there is no such file, or it is damaged, of another study, or lacks its preprocessing.
    """
    from safetensors import SafetensorError, safe_open

    file = folder.path / FILE
    if not file.is_file():
        raise InputError(
            f"{folder.path} has no {FILE}, on which predictions are calibrated: finish the study again with resume "
            "(dampen tune --resume), which writes it and trains nothing; one of an older version has to be made anew"
        )
    try:
        with safe_open(file, "pt") as held:
            about = json.loads((held.metadata() or {})["dampen"])
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
        if about["format"] != _FORMAT:
            raise InputError(f"{file} has format {about['format']}, this version of dampen reads {_FORMAT}")
        if about.pop("digest") != _digest(about, tensors):
            raise ValueError("its contents are not what was written")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(f"{file} is damaged: {(str(e) or type(e).__name__).splitlines()[0]}") from None
    if about["fingerprint"] != fingerprint:
        raise InputError(f"{file} is of a study of other data")
    if about["note"] is not None:
        normalisation: Any = Normalisation(tensors["mean"], tensors["std"], about["note"])
    elif preprocessing is None:
        raise InputError(f"{folder.path} has no preprocessing.json, without which a table's rows can't be read")
    else:
        normalisation = preprocessing.vectoriser

    def rows(kind: str, n: int) -> tuple[Rows, ...]:
        features = [tensors[f"{kind}features/{i}"] for i in range(n)]
        targets = [tensors[f"{kind}targets/{i}"] for i in range(n)]
        features = [normalisation.apply(t) for t in features] if about["raw"] else features
        return tuple(map(Rows, features, targets))

    description = Description.from_plain(about["description"], normalisation)
    return Unseen(description, rows("", about["sets"]), rows(_OF_ENSEMBLES, about.get("ensembles", 0)))


def _digest(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(str((name, t.dtype, tuple(t.shape))).encode())
        digest.update(t.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
