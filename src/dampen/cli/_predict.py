"""`dampen predict`: a line for each input, with its uncertainty; `dampen trust`: the page about how far to trust it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dampen._io import counted, exists
from dampen.cli import _options, _output, _predict_setup, _writers
from dampen.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from dampen.data import Data, Incoming
    from dampen.study import Method

_AGREE = 1e-5  # mutual information, in nats, that is rounding

_Study = Annotated[Path, typer.Argument(help="Folder of a finished study.")]
_Data = Annotated[
    str,
    typer.Argument(
        help="For a study of a table: any file with its columns, the target's or not (.csv, .tsv, .parquet, .feather, "
        ".xlsx). Else digits, fashion-mnist, iris ..., a .npz file, an image, a folder of images or of IDX files.",
        show_default=False,
    ),
]
_Samples = Annotated[int, typer.Option(min=0, help="Dropout masks for each network; 0 for a single pass.")]
_Ensemble = Annotated[bool, typer.Option("--ensemble", help="Ask the networks of all the study's seeds, not one.")]
_Coverage = Annotated[float, typer.Option(help="Share of the rows to answer; the least certain others are refused.")]
_Rows = Annotated[
    str, typer.Option(help="test or all.", show_default="test where the study's own data has test rows, else all")
]


def predict(
    study: _Study,
    data: _Data,
    samples: _Samples = 100,
    ensemble: _Ensemble = False,
    coverage: _Coverage = 0.9,
    out: Annotated[Path | None, typer.Option(help="File for the lines, .csv or .parquet.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture to draw where targets are known, .png or .svg.", show_default="none")
    ] = None,
    rows: _Rows = "",
    model: _options.Model = None,
    data_dir: _options.DataDir = None,
    seed: _options.Seed = 0,
    json: _options.Json = False,
) -> None:
    """Predict with a study's recommended network, and say how certain each prediction is and which to refuse.

    Temperature (or noise), the limit of refusal and prediction sets are fitted on rows that took no part in training.
    Where the data has targets, a summary says what the predictions were worth.
    """
    _writers.check_file(out)
    if plot is not None:
        _options.picture(plot, "")
    asking = _predict_setup.ready(study, data, samples, ensemble, coverage, rows, model, data_dir, seed)
    kept, source, at, method, calibration = asking.kept, asking.source, asking.rows, asking.method, asking.calibration
    gathered = _Gathered()
    head = {"study": str(study), "data": source.name, "method": method.name}

    from dampen.report import draw_predictions
    from dampen.study import answer, labelled, refusal, remarks, summary

    if plot is not None and not labelled(kept, source):
        raise InputError(f"--plot draws what predictions were worth, and {source.name!r} has no targets: leave it out")

    def run(take: _writers.Take) -> None:
        with _output.progress("predicting") as advance:

            def each(columns: dict[str, Any]) -> None:
                gathered.add(columns)
                told = {name: values for name, values in columns.items() if not name.startswith("_")}
                take({"row": told.pop("row")} | _files(source, columns["row"]) | told)
                advance(gathered.n, len(at))

            answer(kept, source, at, method, calibration, each)

    def tail() -> dict[str, Any]:
        judged = gathered.judged() if labelled(kept, source) else None
        if plot is not None and judged is not None:
            draw_predictions(judged, source, plot)
        odd = [] if judged is None else remarks(judged, coverage)
        return {
            "notes": [*asking.notes, *_output.WARNED, *calibration.notes, *odd],
            "calibration": calibration.document(),
            "refusal": None if judged is None else refusal(judged),
            "summary": None if judged is None else summary(judged),
        }

    if out is not None:
        _writers.write(out, run)
        if json:
            _output.print_json({**head, "rows": gathered.n, "out": str(out), **tail()})
            return
    elif json:
        _writers.stream_json(head, run, tail)
        return
    else:
        _writers.stream_csv(run)
    _tell(tail(), method, (*asking.notes, *_output.WARNED), out)


def trust(
    study: _Study,
    data: _Data,
    against: Annotated[
        str | None, typer.Option(metavar="DATA", help="Foreign data with rows of the same shape: is it noticed?")
    ] = None,
    samples: _Samples = 100,
    ensemble: _Ensemble = False,
    coverage: _Coverage = 0.9,
    out: Annotated[Path | None, typer.Option(help="HTML file.", show_default="trust.html in STUDY")] = None,
    rows: _Rows = "",
    model: _options.Model = None,
    data_dir: _options.DataDir = None,
    seed: _options.Seed = 0,
    json: _options.Json = False,
) -> None:
    """Write a page on how far a study's predictions can be trusted: calibration, refusal, foreign data, examples."""
    if out is not None and out.suffix.lower() != ".html":
        raise InputError(f"--out takes a file that ends in .html, got {out}")
    if out is not None:
        exists(out)  # raises where it is no name of a file
    asking = _predict_setup.ready(
        study, data, samples, ensemble, coverage, rows, model, data_dir, seed, against, with_targets=True
    )
    kept, source, at, method, calibration = asking.kept, asking.source, asking.rows, asking.method, asking.calibration

    from dampen.report import write_trust
    from dampen.study import answer, refusal, remarks, summary

    own, other = _Gathered(), _Gathered()
    with _output.progress("predicting") as advance:

        def each(columns: dict[str, Any], into: "_Gathered", total: int) -> None:
            into.add(columns)
            advance(into.n, total)

        answer(kept, source, at, method, calibration, lambda columns: each(columns, own, len(at)))
        name = None
        if asking.foreign is not None:
            foreign, there = asking.foreign
            name = foreign.name
            answer(kept, foreign, there, method, calibration, lambda columns: each(columns, other, len(there)))
    document: dict[str, Any] = {
        "study": str(study),
        "data": source.name,
        "method": method.name,
        "notes": [*asking.notes, *_output.WARNED, *calibration.notes, *remarks(own.judged(), coverage)],
        "calibration": calibration.document(),
        "refusal": refusal(own.judged()),
        "foreign": None if name is None else {"data": name, **_told_apart(own.columns(), other.columns())},
    }
    page = out or study / "trust.html"
    write_trust(page, document | {"summary": summary(own.judged())}, own.judged(), other.columns(), source)
    document |= {"page": str(page), "summary": summary(own.judged())}
    if json:
        _output.print_json(document)
        return
    _tell(document, method, (*asking.notes, *_output.WARNED), page)


def _files(source: "Data | Incoming", rows: "np.ndarray") -> dict[str, Any]:
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

    def judged(self) -> dict[str, Any]:
        """Return the columns of the rows whose target is known."""
        columns = self.columns()
        return {name: values[columns["_known"]] for name, values in columns.items()}


def _told_apart(own: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return how well each uncertainty tells foreign rows from own ones."""
    from dataclasses import asdict

    import torch

    from dampen.uncertainty import foreign

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
        name: asdict(foreign(torch.from_numpy(score(own)), torch.from_numpy(score(other))))
        for name, score in scores.items()
    }


def _tell(document: dict[str, Any], method: "Method", told: tuple[str, ...], file: Path | None) -> None:
    """Say in words what was found: on stdout if the lines went to a file, else on stderr.

    Notes that have been told already are left out.
    """
    stream = sys.stderr if file is None else sys.stdout
    said, calibration = document["summary"], document["calibration"]
    print(f"Asked: {method.name}; calibrated on {calibration['rows']} predictions of unseen rows.", file=stream)
    if said is not None and "accuracy" in said:
        refusal = document["refusal"]
        print(
            f"Accuracy {said['accuracy']:.4f} on {counted(said['n'], 'row')}; nll {said['nll']:.4f}, after temperature "
            f"{calibration['temperature']:.3g}: {said['nll_calibrated']:.4f}; calibration error {said['ece']:.4f}, "
            f"after: {said['ece_calibrated']:.4f}.",
            file=stream,
        )
        if refusal["accuracy_answered"] is not None:
            refusing = (
                f"Refusing the least certain {1 - refusal['answered']:.1%} the accuracy becomes "
                f"{refusal['accuracy_answered']:.4f}. "
            )
            print(
                f"{refusing * (refusal['answered'] < 1)}Sets for {calibration['coverage']:.0%} coverage hold the right "
                f"class in {refusal['conformal_coverage']:.1%} of the rows, with {refusal['mean_set_size']:.2f} "
                "classes on average.",
                file=stream,
            )
    elif said is not None:
        print(
            f"RMSE {said['rmse']:.4g} on {counted(said['n'], 'row')}; log likelihood {said['log_likelihood']:.4f}; "
            f"Gaussian 95 % intervals cover {said['coverage_95']:.1%}, conformal ones "
            f"{document['refusal']['conformal_coverage']:.1%}.",
            file=stream,
        )
    if document.get("foreign"):
        found = {k: v for k, v in document["foreign"].items() if k != "data"}
        best = max(found, key=lambda name: found[name]["auroc"])
        print(
            f"Rows of {document['foreign']['data']} are told apart best by {best.replace('_', ' ')}: AUROC "
            f"{found[best]['auroc']:.4f}, false alarms at 95 % found {found[best]['fpr95']:.1%}.",
            file=stream,
        )
    for note in document["notes"]:
        if note not in told:
            print(f"Note: {note}.", file=stream)
    if file is not None:
        print(file)
