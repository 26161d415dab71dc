"""What an export's folder holds, and how it is written: everything that can fail before the first file."""

import hashlib
import json
import math
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from torch import nn

from dampen._checks import as_path
from dampen._io import as_input_error, exists, is_own, is_staged, locked, save_tensors, shortened, staged
from dampen.data import Data, Normalisation, Vectoriser
from dampen.engine import QUANTILE_HEADS, QUANTILES, VARIANCE_HEADS, copied
from dampen.engine.knobs.weights.weight_decay import decayed
from dampen.errors import InputError
from dampen.export import _layers, _onnx, _script
from dampen.metrics import METRICS
from dampen.study import Description, Exported, Winner, written_config

FILES = (
    *("model.safetensors", "model.json", "preprocessing.json", "model.onnx"),
    *("train.py", "initial.safetensors", "data.npz"),
)
_SMALL = 64 << 20  # bytes of rows that are written unasked
_FORMAT = 1  # of model.json


def write(winner: Winner, folder: str | Path, *, onnx: bool = False, data: bool | None = None) -> Exported:
    """Write a study's network for use without dampen.

    `model.safetensors` and `model.json` (layers, setting, training, preprocessing, scale of the target) always, with
    `preprocessing.json` for tables (`dampen.data.Preprocessing` reads it); `train.py`, a script in plain PyTorch that
    trains it again, with `data.npz` and, where torch's seed does not give them, `initial.safetensors`, if the training
    is one that the script can follow and its rows are still there; `model.onnx` on demand.

    Args:
        winner: the network and what its training followed from.
        folder: new, empty, or of an earlier export.
        onnx: whether to write `model.onnx`.
        data: whether to write the rows; None: if they are no more than 64 MiB.

    Raises:
        InputError: the folder holds something else or can't be written, rows are requested that are missing, or ONNX is
            not installed or can't hold the network.
    """
    folder = as_path("folder", folder)
    check_folder(folder)
    if onnx:
        _onnx.check_installed()
    if data and winner.data is None:
        raise InputError(f"the rows can't be written: {winner.lacking}")
    refused = None
    try:
        _script.check(winner)
    except InputError as e:
        refused = f"train.py is not written: {e}"
    writers: dict[str, Callable[[Path], object]] = {}
    if refused is None:
        text = _script.source(winner)
        writers["train.py"] = lambda file: file.write_text(text, encoding="utf-8")
        if not _script.drawn_by_seed(winner):
            writers["initial.safetensors"] = lambda file: _save(winner.initial, file, {})
        rows = winner.data
        assert rows is not None  # the script would have been refused
        if data or (data is None and _bytes(rows) <= _SMALL):
            writers["data.npz"] = lambda file: _save_arrays(file, _arrays(rows))
    document = _document(winner)
    table = winner.description.preprocessing
    if table is not None:
        writers["preprocessing.json"] = lambda file: file.write_text(
            json.dumps(table.document(), indent=1) + "\n", encoding="utf-8"
        )
    document["train"] = {"refused": refused, "needs": None if refused or "data.npz" in writers else "data.npz"}
    about = {"model": winner.model, "setting": json.dumps(document["setting"])}
    writers["model.safetensors"] = lambda file: _save(winner.network, file, about)
    with locked(folder), as_input_error(folder), staged(folder, FILES) as scratch:
        if onnx:
            document["onnx"] = _to_onnx(winner, scratch / "model.onnx")
        names = [*writers, "model.json", *(["model.onnx"] if onnx else [])]
        document["files"] = sorted(names)
        for name, writer in writers.items():
            writer(scratch / name)
        document["sha256"] = {name: _digest(scratch / name) for name in ("train.py",) if name in names}
        text = json.dumps(document, indent=1, allow_nan=False)
        (scratch / "model.json").write_text(text + "\n", encoding="utf-8")
    return Exported(folder, tuple(sorted(names)), refused, document)


def check_folder(folder: Path) -> None:
    """Make sure that an export can go to a folder: it is new, empty, or of an export, if of one that was killed.

    Raises:
        InputError: it holds something else, or a script that somebody has changed.
    """
    if exists(folder) and not folder.is_dir():
        raise InputError(f"{shortened(folder)} is a file: name a folder for the export")
    if not folder.is_dir() or is_staged(folder):
        return
    with as_input_error(folder):
        names = {file.name for file in folder.iterdir() if not is_own(file.name)}
    if not names:
        return
    ours = _exported(folder / "model.json")
    if "model.json" not in names or ours is None:
        raise InputError(f"{folder} is not empty and holds no export: choose another folder")
    for name in sorted(names & {*FILES}):
        if name not in ours:
            raise InputError(f"{shortened(folder / name)} is not of the export beside it: choose another folder")
        if ours[name] is not None and ours[name] != _digest(folder / name):
            raise InputError(
                f"{shortened(folder / name)} has been changed since it was exported: it is not overwritten; choose "
                "another folder"
            )


class _Export(Struct, frozen=True):
    """What an earlier export's `model.json` has to have."""

    format: int
    made_by: dict[str, str]
    files: list[str]
    sha256: dict[str, str] = {}


def _exported(file: Path) -> dict[str, str | None] | None:
    """Return the files of an earlier export, with a hash of those that people edit; None where that is no export."""
    try:
        export = msgspec.json.decode(file.read_bytes(), type=_Export)
    except (OSError, ValueError):  # msgspec's errors are of that kind
        return None
    return {name: export.sha256.get(name) for name in export.files} if "dampen" in export.made_by else None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _document(winner: Winner) -> dict[str, Any]:
    network, data, training = winner.network, winner.description, winner.training
    decays = decayed(network, training.decay_filter)
    return {
        "format": _FORMAT,
        "made_by": {"dampen": version("dampen"), "torch": torch.__version__, "python": platform.python_version()},
        "model": winner.model,
        "task": data.task,
        "classes": None if data.classes is None else list(data.classes),
        "inputs": list(data.inputs),
        "outputs": data.outputs,
        "architecture": _layers.describe_layers(network),
        "parameters": {
            name: {"shape": list(p.shape), "dtype": str(p.dtype).removeprefix("torch."), "decays": decays.get(name)}
            for name, p in network.named_parameters()
        },
        "setting": winner.setting.to_dict(),
        "training": {
            "data": data.name,
            "rows": data.rows,
            "weighted": data.weighted,
            "seed": winner.seed,
            "epochs": winner.epochs,
            **written_config(training),
            "batch_size": training.batch_size,
            "even_batches": training.even_batches,
            "lr": winner.setting.get("lr", training.lr),
        },
        "preprocessing": _preprocessing(data),
        "target": None if data.task == "classification" else _target(winner),
        "test": _test(winner),
    }


def _target(winner: Winner) -> dict[str, Any]:
    """Return what a network's outputs are, and how they become numbers in the target's own unit."""
    loss, (mean, deviation) = winner.training.loss, winner.target_scale
    scale = {"mean": mean, "deviation": deviation}
    if loss in VARIANCE_HEADS:
        return scale | {
            "outputs": ["mean", "log variance"],
            "note": "the first output times deviation, plus mean; exp(second output / 2) times deviation is the "
            "standard deviation of the noise",
        }
    if loss in QUANTILE_HEADS:
        return scale | {
            "outputs": ["median" if q == 0.5 else f"quantile {q:g}" for q in QUANTILES],
            "note": "each output times deviation, plus mean; the quantiles are of one network, not conformalised",
        }
    return scale | {"outputs": ["value"], "note": "the network's output times deviation, plus mean"}


def _preprocessing(data: Description) -> dict[str, Any]:
    normalisation = data.normalisation
    if isinstance(normalisation, Vectoriser):
        return {
            "kind": "table",
            "note": normalisation.note,
            "inputs": normalisation.columns.inputs(data.outputs),
            "columns": normalisation.columns.document(data.outputs),
            "file": "preprocessing.json",
        }
    return {
        "kind": "scaling",
        "note": normalisation.note,
        "inputs": "(features - mean) / std",
        "features": None if data.feature_names is None else list(data.feature_names),
        "mean": normalisation.mean.tolist(),
        "std": normalisation.std.tolist(),
    }


def _test(winner: Winner) -> dict[str, float | None] | None:
    """Return the network's metrics on the test rows, of one pass in evaluation mode; None where the rows are gone."""
    if winner.data is None:
        return None
    rows = winner.data.test
    if not len(rows):
        return {}
    dtype = next(winner.network.parameters()).dtype
    with torch.no_grad():
        outputs = winner.network(rows.features.to(dtype))
    metrics = {
        metric.name: metric.in_unit(float(metric.costs(outputs, rows).double().mean()), winner.target_scale[1])
        for metric in METRICS.values()
        if metric.task == winner.data.task and not metric.samples
    }
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _bytes(data: Data) -> int:
    size = data.features.element_size() if data.columns is None else 4  # inputs are float32
    return (len(data.train_rows) + len(data.test_rows)) * data.n_inputs * size


def _arrays(data: Data) -> dict[str, np.ndarray]:
    """Return what `train.py` reads: raw rows and their scaling, or the inputs that a table's rows become; targets."""
    scaling = data.normalisation
    raw = isinstance(scaling, Normalisation)
    arrays = {"mean": scaling.mean.numpy(), "std": scaling.std.numpy()} if raw else {}
    for split, at, rows in (("train", data.train_rows, data.train), ("test", data.test_rows, data.test)):
        arrays[f"{split}_features"] = data.features[at].numpy() if raw else rows.features.numpy()
        arrays[f"{split}_targets"] = rows.targets.numpy()
        if rows.weights is not None:
            arrays[f"{split}_weights"] = rows.weights.numpy()
    return arrays


def _to_onnx(winner: Winner, file: Path) -> dict[str, Any]:
    data, network = winner.description, copied(winner.network).float()
    scaling = data.normalisation if isinstance(data.normalisation, Normalisation) else None
    classes = data.task == "classification"
    variance = winner.training.loss in VARIANCE_HEADS
    whole = _onnx.Whole(network, scaling, None if classes else winner.target_scale, variance).eval()
    rows = winner.examples if scaling is None else winner.examples * scaling.std + scaling.mean
    apart = _onnx.write(whole, rows, file)
    before, after = "raw rows, before the preprocessing", "inputs, after the preprocessing"
    return {
        "input": f"features: {after if scaling is None else before}, float32",
        "output": _answers(winner),
        "apart_from_torch": apart,
    }


def _answers(winner: Winner) -> str:
    if winner.description.task == "classification":
        return "answers: logits"
    if winner.training.loss in VARIANCE_HEADS:
        return "answers: mean and standard deviation of the noise, both in the target's own unit"
    return f"answers: {', '.join(_target(winner)['outputs'])}, in the target's own unit"


def _save(network: nn.Module, file: Path, about: dict[str, str]) -> None:
    save_tensors({name: t.clone() for name, t in network.state_dict().items()}, file, about)


def _save_arrays(file: Path, arrays: dict[str, np.ndarray]) -> None:
    with file.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
