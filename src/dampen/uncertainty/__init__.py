"""When to trust a prediction: Monte-Carlo dropout, ensembles, calibration, refusal, foreign data."""

from dampen.uncertainty._calibration import (
    Brier,
    Reliability,
    brier,
    ece,
    fit_temperature,
    nll,
    reliability,
    reliability_of,
    tempered,
)
from dampen.uncertainty._predict import dropout_rates, masks, mc_dropout, predict
from dampen.uncertainty._prediction import ClassPrediction, Prediction, ValuePrediction, fit_noise
from dampen.uncertainty._trust import Foreign, Selective, class_scores, conformal, foreign, selective, value_scores

__all__ = [
    "Brier",
    "ClassPrediction",
    "Foreign",
    "Prediction",
    "Reliability",
    "Selective",
    "ValuePrediction",
    "brier",
    "class_scores",
    "conformal",
    "dropout_rates",
    "ece",
    "fit_noise",
    "fit_temperature",
    "foreign",
    "masks",
    "mc_dropout",
    "nll",
    "predict",
    "reliability",
    "reliability_of",
    "selective",
    "tempered",
    "value_scores",
]
