"""What predictions with known targets were worth, from their columns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dampen.uncertainty import Reliability, Selective, reliability_of, selective

Columns = Mapping[str, np.ndarray]


def summary(columns: Columns) -> dict[str, Any]:
    """Return the figures of rows with targets; see `answer` for the columns."""
    n = len(columns["refuse"])
    if "_square" in columns:
        return {
            "n": n,
            "rmse": float(np.sqrt(columns["_square"].mean())),
            "nll": float(columns["_nll"].mean()),
            "log_likelihood": float(columns["_log_likelihood"].mean()),
            "coverage_95": float(columns["_inside"].mean()),
        }
    return {
        "n": n,
        "accuracy": float(columns["_right"].mean()),
        "nll": float(columns["_nll"].mean()),
        "brier": float(columns["_brier"].mean()),
        "ece": reliabilities(columns)[0].error,
        "aurc": risk(columns).aurc,
        "nll_calibrated": float(columns["_nll_calibrated"].mean()),
        "ece_calibrated": reliabilities(columns)[1].error,
    }


def refusal(columns: Columns) -> dict[str, Any]:
    """Return how many rows were answered, and what those were worth against all; and what sets or intervals cover."""
    answered = ~columns["refuse"]
    found: dict[str, Any] = {
        "answered": float(answered.mean()),
        "conformal_coverage": float(columns["_covered"].mean()),
    }
    if "_right" in columns:
        found["accuracy_all"] = float(columns["_right"].mean())
        found["accuracy_answered"] = float(columns["_right"][answered].mean()) if answered.any() else None
        found["mean_set_size"] = float(columns["set_size"].mean())
    else:
        found["rmse_all"] = float(np.sqrt(columns["_square"].mean()))
        found["rmse_answered"] = float(np.sqrt(columns["_square"][answered].mean())) if answered.any() else None
    return found


def reliabilities(columns: Columns) -> tuple[Reliability, Reliability]:
    """Return reliability before and after temperature."""
    return tuple(reliability_of(columns[name], columns["_right"]) for name in ("_raw", "probability"))  # type: ignore[return-value]


def risk(columns: Columns) -> Selective:
    """Return risk against coverage: wrong rows, or squared errors."""
    if "_right" in columns:
        return selective(torch.from_numpy(~columns["_right"]), torch.from_numpy(1 - columns["probability"]))
    return selective(torch.from_numpy(columns["_square"]), torch.from_numpy(columns["standard_deviation"]))
