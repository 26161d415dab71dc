"""When to trust a prediction: Monte-Carlo dropout, ensembles, calibration, refusal, foreign data."""

from dampen.uncertainty._calibration import Brier, Reliability, brier, ece, nll, reliability, reliability_of
from dampen.uncertainty._predict import dropout_rates, masks, mc_dropout, predict
from dampen.uncertainty._prediction import ClassPrediction, Prediction, ValuePrediction, fit_noise
from dampen.uncertainty._temperature import Temperature, find_temperature, fit_temperature, tempered
from dampen.uncertainty._trust import (
    Foreign,
    Selective,
    class_scores,
    conformal,
    foreign,
    rows_for,
    selective,
    value_scores,
)

__all__ = [
    "Brier",
    "ClassPrediction",
    "Foreign",
    "Prediction",
    "Reliability",
    "Selective",
    "Temperature",
    "ValuePrediction",
    "brier",
    "class_scores",
    "conformal",
    "dropout_rates",
    "ece",
    "find_temperature",
    "fit_noise",
    "fit_temperature",
    "foreign",
    "masks",
    "mc_dropout",
    "nll",
    "predict",
    "reliability",
    "reliability_of",
    "rows_for",
    "selective",
    "tempered",
    "value_scores",
]
