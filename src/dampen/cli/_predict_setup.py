"""What `predict` and `trust` begin with: the study, the rows that it is asked about, and the calibration."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dampen.cli import _output
from dampen.cli._import_string import network_maker
from dampen.errors import InputError

if TYPE_CHECKING:
    import torch

    from dampen.data import Data, Incoming
    from dampen.study import Calibration, Kept, Method

    Source = Data | Incoming


_NOTE = "note: "  # begins what the page and the document tell, too


@dataclass(frozen=True)
class Asking:
    """Everything that a prediction needs.

    Args:
        kept: the study.
        source: the data that it is asked about.
        rows: numbers of its rows.
        method: how they are predicted.
        calibration: of that.
        foreign: other data beside it, with the numbers of its rows.
        notes: what is to be said of the rows and of the method.
    """

    kept: "Kept"
    source: "Source"
    rows: "torch.Tensor"
    method: "Method"
    calibration: "Calibration"
    foreign: "tuple[Source, torch.Tensor] | None" = None
    notes: tuple[str, ...] = ()


def ready(
    study: Path,
    data: str,
    samples: int,
    ensemble: bool,
    coverage: float,
    rows: str,
    model: str | None,
    data_dir: Path | None,
    seed: int,
    against: str | None = None,
    *,
    with_targets: bool = False,
) -> Asking:
    """Open the study and the data, tell what is odd about them, and calibrate.

    Raises:
        InputError: an option that can't be, or as `open_study`, `load` and `Preprocessing.read`.
    """
    if seed < 0:
        raise InputError(f"--seed must be 0 or larger, got {seed}")
    if not 0 < coverage < 1:
        raise InputError(f"--coverage must be between 0 and 1, got {coverage}")
    if rows not in ("", "test", "all"):
        raise InputError(f"--rows must be test or all, got {rows!r}")

    from dampen.study import Method, calibrate, inputs_of, labelled
    from dampen.uncertainty import dropout_rates

    kept, source, said = _opened(study, data, rows, model, data_dir)
    if with_targets and not labelled(kept, source):
        what = "classes" if kept.description.classes else "targets"
        raise InputError(f"{source.name!r} does not have the study's {what}: give it as --against, and data of its own")
    at = _rows_of(source, rows)
    foreign = None
    if against is not None:
        other = _other(kept, against, data_dir)
        foreign = other, _rows_of(other, rows)
        inputs_of(kept, other, foreign[1][:2])
    some = inputs_of(kept, source, at[:2])  # raises where rows have another shape
    told = [line.removeprefix(_NOTE) for line in said if line.startswith(_NOTE)]
    said += [f"{_NOTE}{line}" for line in notes(source)]
    told += notes(source)
    method = Method(samples, ensemble, seed)
    if samples and not any(
        p > 0 for network in kept.networks for p in dropout_rates(network, some, kept.setting.get("dropout"))
    ):
        method = Method(0, ensemble, seed)
        once = "one pass of each network" if ensemble else "a single pass"
        told.append(f"the recommended setting drops no units, so there is nothing to sample: {once} answers")
        said.append(told[-1])
    for line in said:
        print(f"dampen: {line}", file=sys.stderr)
    with _output.progress("calibrating"):
        calibration = calibrate(kept, method, coverage)
    return Asking(kept, source, at, method, calibration, foreign, tuple(told))


def _other(kept: "Kept", data: str, data_dir: Path | None) -> "Source":
    """Return data that the study was not made on: a table's or arrays' raw rows, or data as `load` reads it.

    Raises:
        InputError: as `load`, `Preprocessing.read` and `read_incoming`; or a table for a study of something else.
    """
    from dampen.data import Normalisation, is_table, load, read_incoming, read_new_images, read_rows

    about = kept.description
    if _is_npz(data) and isinstance(about.normalisation, Normalisation):
        found = read_incoming(Path(data), about.normalisation, about.task, about.classes)
        if found is not None:
            return found
    if _is_npz(data) and kept.preprocessing is not None:
        rows = read_rows(Path(data), kept.preprocessing)
        if rows is not None:
            return rows
    white = None
    if _is_images(data) and isinstance(about.normalisation, Normalisation):
        reading: Any = kept.document["plan"].get("reading") or {}
        white = reading.get("image_max")
        images = read_new_images(Path(data), about.normalisation, about.classes, about.inputs, white)
        if images is not None:
            return images
        if len(about.inputs) == 3 and about.inputs[1] == about.inputs[2]:
            return load(data, image_size=about.inputs[1], image_max=white, data_dir=data_dir)
    if not is_table(data):
        return load(data, image_max=white, data_dir=data_dir, progress=sys.stderr.isatty())
    if kept.preprocessing is None:
        shape = ", ".join(map(str, ("N", *about.inputs)))
        raise InputError(
            f"the study was made on {about.name!r}, whose rows are no table's: {data} has no columns that it knows; a "
            f".npz file with an array x of shape [{shape}] will do"
        )
    return kept.preprocessing.read(data)


def _rows_of(data: "Source", wanted: str) -> "torch.Tensor":
    """Return the numbers of the rows that were asked for.

    Raises:
        InputError: test rows of data that has none.
    """
    import torch

    test_rows = getattr(data, "test_rows", ())
    if wanted == "test" and not len(test_rows):
        raise InputError(f"{data.name!r} has no test rows: --rows all takes all of them")
    if wanted == "all" or not len(test_rows):
        return torch.arange(len(data.features))
    return data.test_rows  # type: ignore[union-attr]


def notes(data: "Source") -> tuple[str, ...]:
    """Return what is odd about raw rows; what was odd about the study's own data was told when it was made."""
    from dampen.data import Incoming

    return data.notes if isinstance(data, Incoming) else ()


def _opened(
    study: Path, data: str, rows: str, model: str | None, data_dir: Path | None
) -> tuple["Kept", "Source", list[str]]:
    """Return the study, what it is asked about, and what is to be said of that."""
    from dampen.data import is_image, is_table, load
    from dampen.study import finished, open_study, same_data

    plan = finished(study)["plan"]
    made = network_maker(model) if model is not None else None
    table = is_table(data)
    if table and not os.path.isfile(data):
        raise InputError(f"there is no file {data}; correct the name")
    loaded = None
    if not table and not is_image(Path(data)):
        try:
            loaded = load(data, data_dir=data_dir, progress=sys.stderr.isatty())
        except InputError:
            if not _is_npz(data) and not _is_images(data):  # which may have no targets
                raise
    same = loaded is not None and same_data(loaded, plan) is not None
    kept = open_study(study, loaded if same else None, made, data_dir)

    def other() -> "Source":
        return _other(kept, data, data_dir) if loaded is None or _is_npz(data) or _is_images(data) else loaded

    if not same and not _is_own_file(kept, data):
        return kept, other(), []
    try:
        own = kept.data
    except InputError as e:
        if rows == "test":
            raise
        return kept, other(), [f"{_NOTE}rows of {data} may have taken part in training; they flatter a summary: {e}"]
    if rows != "all" and len(own.test_rows):
        n, every = len(own.test_rows), len(own.features)
        return kept, own, [f"the {n} test rows of {every} are predicted; --rows all takes every one"] * table
    flatters = f"{_NOTE}most of these rows took part in training, so that a summary of them flatters"
    return kept, other() if table else own, [flatters]


def _is_npz(data: str) -> bool:
    return data.lower().endswith(".npz")


def _is_images(data: str) -> bool:
    """Return whether data may be images that come after training: a file, or a folder, unless it is a set's name."""
    from dampen.data import NAMES, is_image

    return data not in NAMES and (os.path.isdir(data) or is_image(Path(data)))


def _is_own_file(kept: "Kept", data: str) -> bool:
    reading: Any = kept.document["plan"].get("reading")
    return reading is not None and os.path.realpath(reading["source"]) == os.path.realpath(data)
