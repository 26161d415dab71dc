"""What predictions with known targets were worth, from their columns."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dampen.uncertainty._calibration import Reliability, classwise_ece, reliability_of, smooth_ece_of
from dampen.uncertainty._out_of_distribution import out_of_distribution
from dampen.uncertainty._selective import Selective, selective
from dampen.uncertainty._temperature import effective_rows

ROUNDING = 1e-6  # relative difference below which two uncertainties are equal

Columns = Mapping[str, np.ndarray]


def summary(columns: Columns) -> dict[str, Any]:
    """Return the figures of rows with targets, which count by their weights where they have some.

    See `CalibratedStudy.columns` for the columns; `n` is how many rows there are.
    """
    n = len(columns["abstain"])
    if "_square" in columns:
        return {
            "n": n,
            "rmse": math.sqrt(_mean(columns, columns["_square"])),
            "nll": _mean(columns, columns["_nll"]),
            "log_likelihood": _mean(columns, columns["_log_likelihood"]),
            "coverage_95": _mean(columns, columns["_inside"]),
        }
    at, targets, w = risk(columns), torch.from_numpy(columns["_class"]), columns.get("_weight")
    raw, calibrated = (torch.from_numpy(columns[f"_probabilities{of}"]) for of in ("", "_calibrated"))
    return {
        "n": n,
        "accuracy": _mean(columns, columns["_right"]),
        "nll": _mean(columns, columns["_nll"]),
        "brier": _mean(columns, columns["_brier"]),
        "ece": reliabilities(columns)[0].error,
        "smooth_ece": smooth_ece_of(columns["_raw"], columns["_right_raw"], w),
        "classwise_ece": classwise_ece(raw, targets, weights=w),
        "aurc": at.aurc,
        "augrc": at.augrc,
        "nll_calibrated": _mean(columns, columns["_nll_calibrated"]),
        "ece_calibrated": reliabilities(columns)[1].error,
        "smooth_ece_calibrated": smooth_ece_of(columns["probability"], columns["_right"], w),
        "classwise_ece_calibrated": classwise_ece(calibrated, targets, weights=w),
    }


def abstention(columns: Columns) -> dict[str, Any]:
    """Return the share of rows that are predicted, their metrics against all rows', and the coverage of sets."""
    answered = ~columns["abstain"]
    weighted = answered if "_weight" not in columns else answered & (columns["_weight"] > 0)
    some = bool(weighted.any())
    figures: dict[str, Any] = {
        "answered": _mean(columns, answered),
        "conformal_coverage": _mean(columns, columns["_covered"]),
    }
    if "_right" in columns:
        right = columns["_right"]
        figures["accuracy_all"] = _mean(columns, right)
        figures["accuracy_answered"] = _mean(columns, right, weighted) if some else None
        figures["mean_set_size"] = _mean(columns, columns["set_size"])
        figures["empty_sets"] = _mean(columns, columns["set_size"] == 0)
    else:
        square = columns["_square"]
        figures["rmse_all"] = math.sqrt(_mean(columns, square))
        figures["rmse_answered"] = math.sqrt(_mean(columns, square, weighted)) if some else None
    return figures


def _separation(columns: Columns) -> str:
    """Return whether bad predictions are the less certain ones: wrong ones, or those with the larger half of errors."""
    if "_right" in columns:
        bad, uncertainty = ~columns["_right"].astype(bool), 1 - columns["probability"]
    else:
        bad, uncertainty = columns["_square"] > np.median(columns["_square"]), columns["standard_deviation"]
    if bad.all() or not bad.any():
        return "good predictions and bad ones can't be told apart where there is one kind"
    found = out_of_distribution(torch.from_numpy(uncertainty[~bad]), torch.from_numpy(uncertainty[bad]))
    low, high = found.auroc_interval
    size = f"AUROC {found.auroc:.2f}, 95 % interval {low:.2f} to {high:.2f}"
    if high < 0.5:
        return f"here the less certain predictions are the better ones ({size})"
    if low > 0.5:
        return f"on the whole the less certain predictions are worse all the same ({size})"
    return f"whether uncertainty separates good predictions from bad ones these rows do not settle ({size})"


def _mean(columns: Columns, values: np.ndarray, of: np.ndarray | None = None) -> float:
    """Return the mean over all rows or over some, by their weights where they have some."""
    w = columns.get("_weight")
    of = np.ones(len(values), bool) if of is None else of
    return float(values[of].mean() if w is None else np.average(values[of], weights=w[of]))


def _rows(columns: Columns) -> float:
    """Return how many rows of equal weight have means of the same variance."""
    w = columns.get("_weight")
    return effective_rows(None if w is None else torch.from_numpy(w), len(columns["abstain"]))


def ranks_rows(columns: Columns) -> bool:
    """Return whether some rows are more uncertain than others, by more than rounding."""
    uncertainty = columns["probability" if "_right" in columns else "standard_deviation"]
    if len(uncertainty) < 2:
        return False
    return bool(np.ptp(uncertainty) > ROUNDING * np.abs(uncertainty).max())


def remarks(
    columns: Columns, coverage: float, calibrator: str | None = None, limit_rows: float = math.inf
) -> list[str]:
    """Return notes on what calibration and abstention made worse, and on unusual prediction sets.

    Args:
        columns: of rows with targets; see `CalibratedStudy.columns`.
        coverage: share of the rows to predict, and level of the sets.
        calibrator: what probabilities were calibrated by; a temperature by default.
        limit_rows: how many rows the limit of abstaining was fitted on, see `Calibration`: it varies with them.
    """
    n = len(columns["abstain"])
    if n == 0:
        return []
    of_classes, worth = "_right" in columns, abstention(columns)
    before, after, what = (
        (worth["accuracy_all"], worth["accuracy_answered"], "accuracy")
        if of_classes
        else (worth["rmse_all"], worth["rmse_answered"], "RMSE")
    )
    notes = []
    if of_classes:
        notes += _of_calibrator(columns, calibrator or "temperature")
    if after is None:
        notes.append(f"all {n} rows are abstained from: they are unlike those that the limit was fitted on")
    elif (after < before) if of_classes else (after > before):
        notes.append(
            f"abstaining makes these rows worse: the {what} of the answered ones is {after:.4g}, that of all "
            f"{before:.4g}; {_separation(columns)}"
        )
    error = math.sqrt(coverage * (1 - coverage) * (1 / _rows(columns) + 1 / limit_rows))
    # of three standard errors, of which chance alone leaves one in 370
    if n > 1 and not ranks_rows(columns):
        remedy = ": --ensemble, or --samples where the setting drops units, gives uncertainties that differ" * (
            not of_classes
        )
        notes.append("the predictions of all rows are equally uncertain, so that abstention can't rank them" + remedy)
    elif after is not None and abs(worth["answered"] - coverage) > 3 * error:
        notes.append(
            f"{worth['answered']:.1%} of these rows are answered instead of {coverage:.1%}: they are "
            f"{'less' if worth['answered'] < coverage else 'more'} certain than those that the limit was fitted on"
        )
    if of_classes and worth["empty_sets"] > 0:
        notes.append(
            f"the prediction set of {worth['empty_sets']:.1%} of these rows is empty: a class is in a set where its "
            f"probability is large enough for {coverage:.1%} coverage on average over all rows, and the network is "
            f"right in {before:.1%}, so that leaving out its least certain classes keeps that; abstain "
            "from rows with an empty set, or choose a larger --coverage"
        )
    return notes


def _of_calibrator(columns: Columns, calibrator: str) -> list[str]:
    """Return that the calibrator makes probabilities worse, and whether that is more than chance."""
    change = columns["_nll_calibrated"] - columns["_nll"]
    worse, rows = _mean(columns, change), _rows(columns)
    if not worse > 1e-9:
        return []
    error = math.sqrt(_mean(columns, np.square(change - worse)) / (rows - 1)) if rows > 1 else math.inf
    what = {"vector": "vector scaling", "isotonic": "isotonic regression"}.get(calibrator, "the temperature")
    chance = "a significant difference" if worse > 2 * error else "no significant difference"
    return [
        f"{what} makes these rows worse: their nll is {_mean(columns, columns['_nll']):.4g} without it and "
        f"{_mean(columns, columns['_nll_calibrated']):.4g} with it, {chance}"
    ]


def reliabilities(columns: Columns) -> tuple[Reliability, Reliability]:
    """Return reliability before and after calibration."""
    before, after = (
        reliability_of(columns[name], columns[right], weights=columns.get("_weight"))
        for name, right in (("_raw", "_right_raw"), ("probability", "_right"))
    )
    return before, after


def risk(columns: Columns) -> Selective:
    """Return risk against coverage: wrong rows, or squared errors."""
    w = columns.get("_weight")
    if "_right" in columns:
        return selective(torch.from_numpy(~columns["_right"]), torch.from_numpy(1 - columns["probability"]), w)
    return selective(torch.from_numpy(columns["_square"]), torch.from_numpy(columns["standard_deviation"]), w)
