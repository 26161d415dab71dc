"""What `predict` and `trust` begin with: the study, the rows that it predicts, and the calibration."""

import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dampen._language import shown
from dampen.cli import _output, _startup
from dampen.cli._network import network_maker_of
from dampen.errors import DataWarning, InputError

if TYPE_CHECKING:
    import torch

    from dampen.data import Data, Incoming
    from dampen.study import CalibratedStudy, Study

    Source = Data | Incoming


_NOTE = "note: "  # begins the notes of the page and the document, too


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that a prediction needs.

    Args:
        study: the study, calibrated.
        source: the data that it predicts.
        rows: numbers of its rows.
        labelled: whether it has the targets that the study predicts.
        other: data of another distribution beside it, with the numbers of its rows.
        notes: on the rows.
    """

    study: "CalibratedStudy"
    source: "Source"
    rows: "torch.Tensor"
    labelled: bool
    other: "tuple[Source, torch.Tensor] | None" = None
    notes: tuple[str, ...] = ()


def folder_of(study: str) -> Path:
    """Return the folder of the study that is named.

    Raises:
        InputError: there is none.
    """
    with _startup.importing():
        from dampen.study import study_folder

    return study_folder(study)


def ready(
    folder: Path,
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
    calibrator: str = "auto",
    sets: str = "lac",
    level: float | None = None,
) -> Setup:
    """Open the study and the data, print what is odd about them, and calibrate.

    Raises:
        InputError: an option that can't be, or as `load_study`, `load` and `Preprocessing.read`.
    """
    if seed < 0:
        raise InputError(f"--seed must be 0 or larger, got {seed}")
    if not 0 < coverage < 1:
        raise InputError(f"--coverage must be between 0 and 1, got {coverage}")
    if level is not None and not 0 < level < 1:
        raise InputError(f"--level must be between 0 and 1, got {level}")
    if rows not in ("", "test", "all"):
        raise InputError(f"--rows must be test or all, got {rows!r}")

    with _startup.importing():
        from dampen.data import Incoming
        from dampen.study import labelled, read_new_rows

    study, source, printed = _opened(folder, data, rows, model, data_dir)
    predictor = study.results.predictor
    known = labelled(predictor, source)
    if with_targets and not known:
        raise InputError(_without_targets(study, source, data))
    at = _numbers(source, rows)
    other = None
    if against is not None:
        there = read_new_rows(study.results, against, data_dir, progress=sys.stderr.isatty())
        other = there, _numbers(there, rows)
        predictor.inputs(there, other[1][:2])
    predictor.inputs(source, at[:2])  # raises where rows have another shape
    row_notes = source.notes if isinstance(source, Incoming) else ()  # of the study's own data they are known already
    others = other[0].notes if other is not None and isinstance(other[0], Incoming) else ()
    of_others = [_among(str(against), note) for note in others]
    printed += [f"{_NOTE}{note}" for note in (*row_notes, *of_others)]
    notes = tuple(line.removeprefix(_NOTE) for line in printed if line.startswith(_NOTE))
    for line in printed:
        print(f"dampen: {_output.printable(shown(line))}", file=sys.stderr)
    with _output.progress("calibrating"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # what could not be calibrated is printed with the summary
        calibrated = study.calibrated(
            samples,
            coverage,
            seed,
            ensemble=ensemble,
            calibrator=calibrator,
            sets=sets,
            **({} if level is None else {"level": level}),
        )
    return Setup(study=calibrated, source=source, rows=at, labelled=known, other=other, notes=notes)


def _without_targets(study: "Study", source: "Source", data: str) -> str:
    """Return what data lacks with which predictions could be compared."""
    from dampen.data import Incoming, is_table
    from dampen.study import is_npz

    classes = study.results.predictor.description.classes is not None
    if not isinstance(source, Incoming) or any(
        "is a class that" in note or "is not a number" in note for note in source.notes
    ):
        what = "classes" if classes else "targets"
        return f"{source.name!r} does not have the study's {what}: give it as --against, and the study's as DATA"
    if is_table(data):
        column = None if study.preprocessing is None else study.preprocessing.target
        lacks = "no targets" if column is None else f"no values of the study's target, column {column!r}"
    elif is_npz(data):
        lacks = "no array y of targets"
    else:
        lacks = "no folders that are called as the study's classes"
    return f"{source.name!r} has {lacks}, which dampen trust needs: add them, or use dampen predict, which needs none"


def _numbers(data: "Source", wanted: str) -> "torch.Tensor":
    """Return the numbers of the rows to predict.

    Raises:
        InputError: test rows of data that has none.
    """
    import torch

    from dampen.study import rows_of

    if wanted == "test" and not len(getattr(data, "test_rows", ())):
        raise InputError(f"{data.name!r} has no test rows: --rows all takes all of them")
    return torch.arange(len(data.features)) if wanted == "all" else rows_of(data)


def _among(rows: str, note: str) -> str:
    return f"among the rows of {rows}: {note}"


def _opened(
    folder: Path, data: str, rows: str, model: str | None, data_dir: Path | None
) -> tuple["Study", "Source", list[str]]:
    """Return the study, the data that it predicts, and notes on it."""
    from dampen.data import is_image, is_table, load
    from dampen.study import finished, holds_images, is_npz, load_study, read_new_rows, same_data

    plan = finished(folder)["plan"]
    made = network_maker_of(folder, model)
    table, to_come = is_table(data), is_npz(data) or holds_images(data)
    if table and not os.path.isfile(data):
        raise InputError(f"there is no file {data}; correct the name")
    loaded = None
    if not table and not is_image(Path(data)):
        try:
            loaded = load(data, data_dir=data_dir, progress=sys.stderr.isatty())
        except InputError:
            if not to_come:  # which may have no targets
                raise
    same = loaded is not None and same_data(loaded, plan) is not None
    study = load_study(folder, loaded if same else None, made, data_dir=data_dir)

    def other() -> "Source":
        if loaded is None or to_come:
            return read_new_rows(study.results, data, data_dir, progress=sys.stderr.isatty())
        return loaded

    if not same and not _is_own_file(study, data):
        return study, other(), []
    try:
        own = study.data
    except InputError as e:
        if rows == "test":
            raise
        return (
            study,
            other(),
            [f"{_NOTE}rows of {data} may have taken part in training; their summary may be too good: {e}"],
        )
    if rows != "all" and len(own.test_rows):
        n, every = len(own.test_rows), len(own.features)
        return study, own, [f"the {n} test rows of {every} are predicted; --rows all takes every one"] * table
    note = f"{_NOTE}most of these rows took part in training, so that their summary is too good"
    return study, other() if table else own, [note]


def _is_own_file(study: "Study", data: str) -> bool:
    source = study.results.reading.get("source")
    return source is not None and os.path.realpath(source) == os.path.realpath(data)
