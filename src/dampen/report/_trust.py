"""The page on how far a study's predictions can be trusted: one HTML file that opens without a network."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dampen._checks import as_path
from dampen._io import counted
from dampen._language import shown
from dampen.data import Data, Incoming
from dampen.report import _page
from dampen.report._page import TRUST, check_page, embed, render, write_page
from dampen.report.pictures import BLACK, BLUE, ORANGE, shades
from dampen.uncertainty import ranks_rows, reliabilities, risk

Columns = Mapping[str, np.ndarray]
_EXAMPLES = 8  # of the most and of the least certain inputs
_POINTS = 400  # of a curve: more can't be seen
_LABELS = {
    "n": "number of rows",
    "accuracy": "accuracy",
    "nll": "negative log likelihood, as it is",
    "nll_calibrated": "negative log likelihood, after calibration",
    "brier": "Brier score, as it is",
    "brier_calibrated": "Brier score, after calibration",
    "ece": "calibration error (ECE), as it is",
    "ece_calibrated": "calibration error (ECE), after calibration",
    "smooth_ece": "smooth calibration error (SmoothECE), as it is",
    "smooth_ece_calibrated": "smooth calibration error (SmoothECE), after calibration",
    "classwise_ece": "calibration error of each class (classwise ECE), as it is",
    "classwise_ece_calibrated": "calibration error of each class (classwise ECE), after calibration",
    "rmse": "root mean squared error",
    "log_likelihood": "log likelihood per row",
    "coverage_95": "rows within Gaussian 95 % intervals",
    "accuracy_all": "accuracy on all rows",
    "rmse_all": "root mean squared error on all rows",
    "aurc": "area under the curve of abstaining (AURC)",
    "augrc": "area under the generalised curve of abstaining (AUGRC)",
    "empty_sets": "share of empty prediction sets",
    "answered": "share of rows that are predicted",
    "accuracy_answered": "accuracy on these",
    "rmse_answered": "root mean squared error on these",
    "conformal_coverage": "rows within conformal sets or intervals",
    "mean_set_size": "classes in a prediction set, on average",
    "rows": "rows to calibrate on",
    "calibrator": "probabilities are calibrated by",
    "temperature": "temperature",
    "sets": "prediction sets by",
    "noise_variance": "variance of the noise",
    "noise_factor": "factor of the variances that the networks return",
    "level": "coverage of intervals that was asked for",
    "coverage": "coverage that was asked for",
    "abstain_above": "uncertainty above which it abstains",
    "conformal_threshold": "conformal threshold",
}
_BELOW = {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}  # where a legend is
_EMPTY = 0.1  # where an axis ends that has nothing above 0


def write_trust(
    path: str | Path, document: dict[str, Any], own: Columns, other: Columns, data: Data | Incoming
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        document: what `dampen trust --json` prints.
        own: columns of the study's own rows, with targets.
        other: columns of out-of-distribution rows; empty without any.
        data: that the own rows are of.

    Raises:
        InputError: it can't be written, or would take the place of a file that is no page of dampen's.
    """
    path = as_path("path", path)
    check_page(path, TRUST)
    classes, apart = "accuracy" in document["summary"], ranks_rows(own)
    sections = [
        _answer(document, apart and document["abstention"]["answered"] < 1),
        _reliability(own) if classes else "",
        _risk(own, classes) if apart else "",
        _out_of_distribution(document, own, other) if document["out_of_distribution"] else "",
        _examples(own, data) if apart else "",
        _figures(document),
    ]
    write_page(path, shown(f"When to trust it? {document['data']}"), sections)


def _answer(document: dict[str, Any], abstaining: bool) -> str:
    summary, worth, calibration = document["summary"], document["abstention"], document["calibration"]
    abstained = 1 - worth["answered"]
    if "accuracy" in summary:
        lead = f"Right in {summary['accuracy']:.1%} of {counted(summary['n'], 'row')}"
        if abstaining and worth["accuracy_answered"] is not None:
            lead += f"; abstaining from the least certain {abstained:.1%}, in {worth['accuracy_answered']:.1%}"
        temperature = calibration["temperature"]
        changes = (
            f"the calibration error from {summary['ece']:.4f} to {summary['ece_calibrated']:.4f} and the nll from "
            f"{summary['nll']:.4f} to {summary['nll_calibrated']:.4f}."
        )
        other = {"vector": "Vector scaling", "isotonic": "Isotonic regression"}.get(calibration["calibrator"])
        details = (
            f"{other}, fitted on rows that took no part in training, changes {changes}"
            if other
            else f"Its probabilities stay as they are (temperature 1): calibration error {summary['ece']:.4f}, nll "
            f"{summary['nll']:.4f}."
            if temperature == 1
            else f"On rows that took no part in training its probabilities are "
            f"{'overconfident' if temperature > 1 else 'underconfident'}. Dividing logits by {temperature:.3g} "
            f"changes {changes}"
        )
        details = shown(details) + shown(
            f" Prediction sets for {calibration['coverage']:.4g} coverage contain the right "
            f"class in {worth['conformal_coverage']:.1%} of the rows, with {worth['mean_set_size']:.2f} classes on "
            "average."
        )
    else:
        lead = f"Off by {summary['rmse']:.4g} (RMSE) on {counted(summary['n'], 'row')}"
        if abstaining and worth["rmse_answered"] is not None:
            lead += f"; abstaining from the least certain {abstained:.1%}, by {worth['rmse_answered']:.4g}"
        level = f" for {calibration['level']:.4g}" if "level" in calibration else ""
        details = shown(
            f"Gaussian 95 % intervals cover {summary['coverage_95']:.1%} of the rows, conformal ones{level} "
            f"{worth['conformal_coverage']:.1%}. The log likelihood is {summary['log_likelihood']:.4f} per row."
        )
    return render(
        "trust-answer.html",
        lead=shown(lead) + shown("."),
        details=details,
        notes=[shown(note) for note in document["notes"]],
        fitted=shown(
            f"Prediction: {document['method']}. It was calibrated on {calibration['rows']} "
            "predictions of rows that took no part in training."
        ),
    )


def _reliability(own: Columns) -> str:
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": BLACK}, name=shown("calibrated"))
    for reliability, name, colour, symbol in zip(
        reliabilities(own), ("as it is", "after calibration"), (ORANGE, BLUE), ("square", "circle"), strict=True
    ):
        size = 6 + 18 * np.sqrt(reliability.count / reliability.count.max())
        figure.add_scatter(
            x=reliability.confidence,
            y=reliability.accuracy,
            mode="lines+markers",
            name=shown(f"{name}, error {reliability.error:.4f}"),
            marker={"size": size, "color": colour, "symbol": symbol},
            line={"color": colour},
            text=[shown(counted(int(n), "row")) for n in reliability.count],
            hovertemplate=f"{shown('probability %{x:.3f}, right %{y:.1%}')}<br>%{{text}}<extra></extra>",
        )
    figure.update_layout(
        xaxis_title=shown("probability of the predicted class"),
        yaxis_title=shown("share of right predictions"),
        height=520,
    )
    figure.update_layout(legend=_BELOW)
    note = "Fifteen bins of equal width; larger marks have more rows. Below the line the network is overconfident."
    return embed(figure, "reliability", shown("Are the probabilities calibrated?"), shown(note))


def _risk(own: Columns, classes: bool) -> str:
    import plotly.graph_objects as go

    curve = risk(own)
    at = np.unique(np.linspace(0, len(curve.risk) - 1, min(_POINTS, len(curve.risk))).astype(int))
    values = curve.risk[at] if classes else np.sqrt(curve.risk[at])
    figure = go.Figure()
    hover = shown(f"%{{x:.1%}} predicted, {'wrong %{y:.1%}' if classes else 'RMSE %{y:.4g}'}") + "<extra></extra>"
    figure.add_scatter(x=curve.coverage[at], y=values, line={"color": BLUE, "width": 2.5}, hovertemplate=hover)
    figure.add_hline(y=float(values[-1]), line_dash="dot", annotation_text=shown("abstaining at random"))
    figure.update_layout(
        xaxis={"title": shown("share of the rows that are predicted"), "tickformat": ".0%"},
        yaxis={
            "title": shown("share of wrong predictions" if classes else "RMSE of the predictions"),
            "range": [0, 1.08 * float(values.max()) or _EMPTY],
        },
        showlegend=False,
        height=420,
    )
    note = "No prediction is wrong, whichever rows are left out. " if classes and not values.any() else ""
    note += (
        f"The least certain rows are left out first; area under the curve {curve.aurc:.4g} "
        f"({'AURC' if classes else 'of squared errors'}), of the generalised curve {curve.augrc:.4g} (AUGRC)."
    )
    return embed(figure, "risk", shown("What is the gain from abstaining?"), shown(note))


def _out_of_distribution(document: dict[str, Any], own: Columns, other: Columns) -> str:
    import plotly.graph_objects as go

    scores = {key: value for key, value in document["out_of_distribution"].items() if key != "data"}
    rows = [
        (shown(key.replace("_", " ")), *(f"{of[score]:.4f}" for score in ("auroc", "aupr", "fpr95")))
        for key, of in scores.items()
    ]
    column = "entropy" if "entropy" in own else "standard_deviation"
    figure = go.Figure()
    uncertainty = shown(column.replace("_", " "))
    hover = uncertainty + shown(" %{x:.3g}, %{y:.1%} of the rows")
    for columns, label, colour in (
        (own, document["data"], BLUE),
        (other, document["out_of_distribution"]["data"], ORANGE),
    ):
        values = columns[column]
        edges = np.linspace(0, max(float(own[column].max()), float(other[column].max())) or 1.0, 61)
        share = np.histogram(values, edges)[0] / len(values)
        figure.add_bar(
            x=(edges[1:] + edges[:-1]) / 2,
            y=share,
            name=_page.label(label),
            marker_color=colour,
            opacity=0.6,
            hovertemplate=hover,
        )
    figure.update_layout(
        barmode="overlay", bargap=0, xaxis_title=uncertainty, yaxis_title=shown("share of the rows"), height=400
    )
    figure.update_layout(legend=_BELOW)
    return render(
        "trust-out-of-distribution.html",
        name=document["out_of_distribution"]["data"],
        figure=embed(figure, "out-of-distribution"),
        rows=rows,
    )


def _examples(own: Columns, data: Data | Incoming) -> str:
    """Show the most and the least certain rows: pictures where the data has them, numbers otherwise."""
    uncertainty = 1 - own["probability"] if "probability" in own else own["standard_deviation"]
    order = np.argsort(uncertainty, kind="stable")
    least = order[::-1][:_EXAMPLES]
    groups = ((shown("The most certain"), order[:_EXAMPLES]), (shown("The least certain"), least))
    return render("trust-examples.html", groups=[(title, _shown(places, own, data)) for title, places in groups])


def _shown(places: Sequence[int] | np.ndarray, own: Columns, data: Data | Incoming) -> list[tuple[int, str, str, str]]:
    """Return each row's number in its file, its picture in base64 if it is one, its target, and what was predicted."""
    rows, numbers = [], data.in_file(torch.from_numpy(own["row"])).tolist()
    assert data.targets is not None
    for i in places:
        row = int(own["row"][i])
        target = data.targets[row]
        name = data.classes[int(target)] if data.classes else f"{float(own['target'][i]):.4g}"
        if "probability" in own:
            caption = f"{shown('right' if own['_right'][i] else 'wrong')}, {own['probability'][i]:.3f}"
        else:
            caption = f"{own['prediction'][i]:.4g} ± {own['standard_deviation'][i]:.2g}"
        rows.append((numbers[i], _picture(data.features[row].numpy()), name, caption))
    return rows


def _picture(features: np.ndarray) -> str:
    """Return an image `[C, H, W]` of one or three channels as a PNG file in base64; nothing for other rows."""
    if features.ndim != 3 or features.shape[0] not in (1, 3):
        return ""
    from matplotlib.image import imsave

    pixels = shades(features)
    stream = io.BytesIO()
    if len(pixels) == 1:
        imsave(stream, pixels[0], cmap="gray", format="png")
    else:
        imsave(stream, np.moveaxis(pixels, 0, -1), format="png")
    return base64.b64encode(stream.getvalue()).decode()


def _figure(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else shown(value) if isinstance(value, str) else value


def _figures(document: dict[str, Any]) -> str:
    parts = {**document["summary"], **document["abstention"], **document["calibration"]}
    rows = [
        (shown(str(_LABELS.get(name, name.replace("_", " ")))), _figure(value))
        for name, value in parts.items()
        if value is not None and not isinstance(value, dict)
    ]
    return render("trust-figures.html", rows=rows)
