"""`dampen predict`: a line for each input, with its uncertainty; `dampen trust`: the page about how far to trust it."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dampen._io import counted, exists
from dampen.cli import _options, _output, _outputs, _predict_setup, _writers
from dampen.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import torch

    from dampen.cli._predict_setup import Setup, Source

_AGREE = 1e-5  # mutual information, in nats, that is rounding

_Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="For a study of a table: a file with its columns, with or without the target (.csv, .tsv, .parquet, "
        ".feather, .xlsx). Otherwise digits, fashion-mnist, iris ..., a .npz file, an image, a folder of images or of "
        "IDX files.",
        show_default=False,
    ),
]
_predicting = partial(_options.option, panel="Prediction")
_Samples = Annotated[int, _predicting("Number of dropout masks for each network; 0 for a single pass.", min=0)]
_Ensemble = Annotated[
    bool, _options.flag("--ensemble", "Average the networks of all the study's seeds.", panel="Prediction")
]
_Coverage = Annotated[float, _predicting("Share of rows to predict; abstain from the least certain others.")]
_Calibrator = Annotated[
    Literal["auto", "temperature", "vector", "isotonic"],
    _predicting("What calibrates class probabilities; auto: what the calibration rows support."),
]
_Sets = Annotated[
    Literal["lac", "aps", "raps"], _predicting("Prediction sets: the smallest (lac), or ones that follow the row.")
]
_Level = Annotated[float | None, _predicting("Coverage of a regression's intervals.", "0.95")]
_Seed = Annotated[int, _predicting("Seed of the dropout masks.")]
_Rows = Annotated[Literal["test", "all"] | None, _options.in_data("Rows to predict.", "test, else all")]
_Plot = Annotated[Path | None, _options.in_output("Picture to draw where targets are known, .png or .svg.", "none")]


def predict(
    study: _options.Study,
    data: _Data,
    rows: _Rows = None,
    model: _options.Model = None,
    data_dir: _options.DataDir = None,
    samples: _Samples = 100,
    ensemble: _Ensemble = False,
    coverage: _Coverage = 0.9,
    calibrator: _Calibrator = "auto",
    sets: _Sets = "lac",
    level: _Level = None,
    seed: _Seed = 0,
    out: Annotated[Path | None, _options.in_output("File for the lines, .csv or .parquet.")] = None,
    plot: _Plot = None,
    json: _options.Json = False,
) -> None:
    """Predict with a study's recommended network: how certain each prediction is, and which rows to abstain from.

    Temperature (or noise), the threshold of abstaining and prediction sets are fitted on rows that took no part in
    training. Where the data has targets, a summary shows how good the predictions are.
    """
    _outputs.keep_apart(out, "--out", data)
    _writers.check_file(out)
    if plot is not None:
        _options.picture(plot, "", data)
    folder = _predict_setup.folder_of(study)
    _outputs.keep_from_study(out, "--out", folder)
    _outputs.keep_from_study(plot, "--plot", folder)
    setup = _predict_setup.ready(
        *(folder, data, samples, ensemble, coverage, rows or "", model, data_dir, seed),
        calibrator=calibrator,
        sets=sets,
        level=level,
    )
    if plot is not None and not setup.labelled:
        name = setup.source.name
        raise InputError(f"--plot compares predictions with targets, and {name!r} has no targets: leave it out")
    gathered = _Gathered()
    parts = _printed(setup, gathered)
    head = {"study": str(folder), "data": setup.source.name, "method": setup.study.method.name}

    def tail() -> dict[str, Any]:
        return _worth(setup, gathered, coverage, plot)

    if out is not None:
        _writers.write(out, parts)
        if json:
            _output.print_json({**head, "rows": gathered.n, "out": str(out), **tail()})
            return
    elif json:
        _writers.stream_json(head, parts, tail)
        return
    else:
        _writers.stream_csv(parts)
    _print(tail(), setup, out)


def _printed(setup: "Setup", gathered: "_Gathered") -> "Iterator[dict[str, Any]]":
    """Yield the columns that are printed, some rows at a time, and gather all of them."""
    import torch

    for columns in _predicted(setup, setup.source, setup.rows, gathered):
        shown = {name: values for name, values in columns.items() if not name.startswith("_")}
        rows = shown.pop("row")
        in_file = setup.source.in_file(torch.from_numpy(rows)).numpy()
        yield {"row": in_file} | _files(setup.source, rows) | shown


def _predicted(
    setup: "Setup", source: "Source", rows: "torch.Tensor", gathered: "_Gathered"
) -> "Iterator[dict[str, Any]]":
    """Yield the columns of predictions, some rows at a time, and gather them."""
    with _output.progress("predicting") as advance:
        for columns in setup.study.columns(source, rows):
            gathered.add(columns)
            yield columns
            advance(gathered.n, len(rows))


def _worth(setup: "Setup", gathered: "_Gathered", coverage: float, plot: Path | None) -> dict[str, Any]:
    """Return what the predictions were worth where targets are known, and draw it."""
    from dampen.report import draw_predictions
    from dampen.uncertainty import abstention, remarks, summary

    calibration = setup.study.calibration
    evaluated = gathered.evaluated() if setup.labelled else None
    if plot is not None and evaluated is not None:
        draw_predictions(evaluated, setup.source, plot)
    odd = (
        []
        if evaluated is None
        else remarks(evaluated, coverage, calibration.document()["calibrator"], calibration.limit_rows)
    )
    return {
        "notes": [*setup.notes, *_output.WARNED, *calibration.notes, *odd],
        "calibration": calibration.document(),
        "abstention": None if evaluated is None else abstention(evaluated),
        "summary": None if evaluated is None else summary(evaluated),
    }


def trust(
    study: _options.Study,
    data: _Data,
    against: Annotated[
        str | None,
        _options.in_data(
            "Other data with rows of the same shape: is it detected as out-of-distribution?", metavar="DATA"
        ),
    ] = None,
    rows: _Rows = None,
    model: _options.Model = None,
    data_dir: _options.DataDir = None,
    samples: _Samples = 100,
    ensemble: _Ensemble = False,
    coverage: _Coverage = 0.9,
    calibrator: _Calibrator = "auto",
    sets: _Sets = "lac",
    level: _Level = None,
    seed: _Seed = 0,
    out: Annotated[Path | None, _options.in_output("HTML file.", "trust.html in STUDY")] = None,
    json: _options.Json = False,
) -> None:
    """Write a page on how far a study's predictions can be trusted.

    It shows calibration, abstention, out-of-distribution data and examples.
    """
    if out is not None and out.suffix.lower() != ".html":
        raise InputError(f"--out takes a file that ends in .html, got {out}")

    from dampen.report import TRUST, check_page

    folder = _predict_setup.folder_of(study)
    page = out or folder / TRUST
    exists(page)  # raises where it is no name of a file
    check_page(page, TRUST)
    setup = _predict_setup.ready(
        *(folder, data, samples, ensemble, coverage, rows or "", model, data_dir, seed, against),
        with_targets=True,
        calibrator=calibrator,
        sets=sets,
        level=level,
    )

    from dampen.report import write_trust

    own, other = _Gathered(), _Gathered()
    for _ in _predicted(setup, setup.source, setup.rows, own):
        pass
    if setup.other is not None:
        for _ in _predicted(setup, *setup.other, other):
            pass
    name = None if setup.other is None else setup.other[0].name
    worth = _worth(setup, own, coverage, None)
    document: dict[str, Any] = {
        "study": str(folder),
        "data": setup.source.name,
        "method": setup.study.method.name,
        "notes": worth["notes"],
        "calibration": worth["calibration"],
        "abstention": worth["abstention"],
        "out_of_distribution": None if name is None else {"data": name, **_detection(own.columns(), other.columns())},
    }
    evaluated = own.evaluated()
    write_trust(page, document | {"summary": worth["summary"]}, evaluated, other.columns(), setup.source)
    document |= {"page": str(page), "summary": worth["summary"]}
    if json:
        _output.print_json(document)
        return
    _print(document, setup, page)


def _files(source: "Source", rows: "np.ndarray") -> dict[str, Any]:
    """Return the column with the rows' files, where rows are files."""
    import numpy as np

    files = getattr(source, "files", ())
    return {"file": np.array(files, dtype=object)[rows]} if files else {}


class _Gathered:
    """The columns of all rows so far, without those of words."""

    def __init__(self) -> None:
        self._parts: list[dict[str, Any]] = []
        self.n = 0

    def add(self, columns: dict[str, Any]) -> None:
        """Add the columns of some rows."""
        self._parts.append({name: v for name, v in columns.items() if v.dtype != object})
        self.n += len(columns["row"])

    def columns(self) -> dict[str, Any]:
        """Return the columns of all rows."""
        import numpy as np

        if len(self._parts) > 1:
            self._parts = [{name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}]
        return self._parts[0] if self._parts else {}

    def evaluated(self) -> dict[str, Any]:
        """Return the columns of the rows whose target is known."""
        columns = self.columns()
        return {name: values[columns["_known"]] for name, values in columns.items()}


def _detection(own: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return how well each uncertainty separates out-of-distribution rows."""
    from dataclasses import asdict

    import torch

    from dampen.uncertainty import out_of_distribution

    scores = {
        "max_probability": lambda c: 1 - c["probability"],
        "entropy": lambda c: c["entropy"],
        "mutual_information": lambda c: c["mutual_information"],
    }
    if "probability" not in own:
        scores = {"standard_deviation": lambda c: c["standard_deviation"]}
    elif abs(own["mutual_information"]).max() < _AGREE:
        del scores["mutual_information"]  # of a single pass: there is nothing to disagree on
    return {
        name: asdict(out_of_distribution(torch.from_numpy(score(own)), torch.from_numpy(score(other))))
        for name, score in scores.items()
    }


def _level(calibration: dict[str, Any]) -> str:
    return f" for {calibration['level']:.4g}" if "level" in calibration else ""


def _calibrated_by(calibration: dict[str, Any]) -> str:
    if calibration["calibrator"] == "temperature":
        return f"temperature {calibration['temperature']:.3g}"
    return {"vector": "vector scaling", "isotonic": "isotonic regression"}[calibration["calibrator"]]


def _print(document: dict[str, Any], setup: "Setup", file: Path | None) -> None:
    """Print the summary in words: on stdout if the lines went to a file, else on stderr.

    Notes that have been printed already are left out.
    """
    stream, notes = sys.stderr if file is None else sys.stdout, (*setup.notes, *_output.WARNED)
    figures, calibration = document["summary"], document["calibration"]
    _output.say(
        f"Prediction: {setup.study.method.name}; calibrated on {calibration['rows']} predictions of rows not trained "
        "on.",
        stream=stream,
    )
    if figures is not None and "accuracy" in figures:
        worth = document["abstention"]
        _output.say(
            f"Accuracy {figures['accuracy']:.4f} on {counted(figures['n'], 'row')}; nll {figures['nll']:.4f}, "
            f"after {_calibrated_by(calibration)}: {figures['nll_calibrated']:.4f}; calibration error "
            f"{figures['ece']:.4f}, after: {figures['ece_calibrated']:.4f}.",
            stream=stream,
        )
        _output.say(
            f"SmoothECE {figures['smooth_ece']:.4f}, after: {figures['smooth_ece_calibrated']:.4f}; classwise ECE "
            f"{figures['classwise_ece']:.4f}, after: {figures['classwise_ece_calibrated']:.4f}; AURC "
            f"{figures['aurc']:.4f}, AUGRC {figures['augrc']:.4f}.",
            stream=stream,
        )
        if worth["accuracy_answered"] is not None:
            abstaining = (
                f"Abstaining from the least certain {1 - worth['answered']:.1%} the accuracy becomes "
                f"{worth['accuracy_answered']:.4f}. "
            )
            _output.say(
                f"{abstaining * (worth['answered'] < 1)}Sets for {calibration['coverage']:.4g} coverage contain the "
                f"right class in {worth['conformal_coverage']:.1%} of the rows, with {worth['mean_set_size']:.2f} "
                "classes on average.",
                stream=stream,
            )
    elif figures is not None:
        _output.say(
            f"RMSE {figures['rmse']:.4g} on {counted(figures['n'], 'row')}; log likelihood "
            f"{figures['log_likelihood']:.4f}; Gaussian 95 % intervals cover {figures['coverage_95']:.1%}, conformal "
            f"ones{_level(calibration)} {document['abstention']['conformal_coverage']:.1%}.",
            stream=stream,
        )
    if document.get("out_of_distribution"):
        scores = {k: v for k, v in document["out_of_distribution"].items() if k != "data"}
        best = max(scores, key=lambda name: scores[name]["auroc"])
        of, name = scores[best], document["out_of_distribution"]["data"]
        low, high = of["auroc_interval"]
        found = (
            f"Rows of {name} are detected best by {best.replace('_', ' ')}: AUROC {of['auroc']:.4f} (95 % interval "
            f"{low:.4f} to {high:.4f}), FPR at 95 % TPR {of['fpr95']:.1%}."
        )
        nothing = (
            f"Rows of {name} are not told apart by any score: at best AUROC {of['auroc']:.4f} (95 % interval {low:.4f} "
            f"to {high:.4f}), by {best.replace('_', ' ')}; 0.5 is chance."
        )
        worst = min(scores, key=lambda name: scores[name]["auroc"])
        area, (lowest, highest) = scores[worst]["auroc"], scores[worst]["auroc_interval"]
        surer = (
            f"The network is surer of rows of {name} than of its own, and no score warns of them: AUROC {area:.4f} "
            f"(95 % interval {lowest:.4f} to {highest:.4f}), by {worst.replace('_', ' ')}."
        )
        unlike = surer if highest < 0.5 else nothing
        _output.say(found if low > 0.5 else unlike, stream=stream)
    for note in document["notes"]:
        if note not in notes:
            _output.say(f"Note: {note}.", stream=stream)
    if file is not None:
        print(file)
