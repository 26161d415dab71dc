"""When to trust a prediction: Monte-Carlo dropout, ensembles, calibration, abstention, data out of distribution."""

from dampen.uncertainty._calibrated import LEVEL, CalibratedClasses, CalibratedValues, Calibration, joined
from dampen.uncertainty._calibration import Brier, Reliability, brier, ece, nll, reliability, reliability_of
from dampen.uncertainty._conformal import class_scores, conformal, rows_for, value_scores
from dampen.uncertainty._out_of_distribution import OutOfDistribution, out_of_distribution
from dampen.uncertainty._predict import dropout_rates, masks, mc_dropout, predict
from dampen.uncertainty._prediction import ClassPrediction, Prediction, ValuePrediction, fit_noise
from dampen.uncertainty._selective import Selective, selective
from dampen.uncertainty._summaries import ROUNDING, abstention, ranks_rows, reliabilities, remarks, risk, summary
from dampen.uncertainty._temperature import Temperature, find_temperature, fit_temperature, tempered

__all__ = [
    "LEVEL",
    "ROUNDING",
    "Brier",
    "CalibratedClasses",
    "CalibratedValues",
    "Calibration",
    "ClassPrediction",
    "OutOfDistribution",
    "Prediction",
    "Reliability",
    "Selective",
    "Temperature",
    "ValuePrediction",
    "abstention",
    "brier",
    "class_scores",
    "conformal",
    "dropout_rates",
    "ece",
    "find_temperature",
    "fit_noise",
    "fit_temperature",
    "joined",
    "masks",
    "mc_dropout",
    "nll",
    "out_of_distribution",
    "predict",
    "ranks_rows",
    "reliabilities",
    "reliability",
    "reliability_of",
    "remarks",
    "risk",
    "rows_for",
    "selective",
    "summary",
    "tempered",
    "value_scores",
]
