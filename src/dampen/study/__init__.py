"""`tune` and `compare`: a search over settings, the verdict on it, and the folder that keeps both."""

from dampen.study._best_model import Exported, Winner
from dampen.study._budget import check_budget
from dampen.study._calibrated import CalibratedStudy, Method, calibrate, labelled, rows_of
from dampen.study._checks import check_network
from dampen.study._compare import compare
from dampen.study._defaults import (
    usual_batch_size,
    usual_epochs,
    usual_length,
    usual_network,
    usual_schedule,
    usual_space,
)
from dampen.study._description import Description
from dampen.study._embedded import with_ids
from dampen.study._fresh import FreshResults
from dampen.study._metric_summaries import abstention, ranks_rows, reliabilities, remarks, risk, summary
from dampen.study._metrics import METRICS, Metric
from dampen.study._metrics import find as find_metric
from dampen.study._new_rows import holds_images, is_npz, read_new_rows
from dampen.study._predictor import Predictor
from dampen.study._protocol import held_out, with_unit_targets
from dampen.study._runner import Progress, costs_of_rows
from dampen.study._saved import SavedResults, finished, of_own_network, same_data
from dampen.study._study import Study
from dampen.study._training import Training
from dampen.study._training import plain as plain_setting
from dampen.study._tune import tune
from dampen.study._verdict import Against, Verdict
from dampen.study._verdict_text import BEATEN
from dampen.study._verdict_text import NAMES as REFERENCE_NAMES

load_study = Study.load

__all__ = [
    "BEATEN",
    "METRICS",
    "REFERENCE_NAMES",
    "Against",
    "CalibratedStudy",
    "Description",
    "Exported",
    "FreshResults",
    "Method",
    "Metric",
    "Predictor",
    "Progress",
    "SavedResults",
    "Study",
    "Training",
    "Verdict",
    "Winner",
    "abstention",
    "calibrate",
    "check_budget",
    "check_network",
    "compare",
    "costs_of_rows",
    "find_metric",
    "finished",
    "held_out",
    "holds_images",
    "is_npz",
    "labelled",
    "load_study",
    "of_own_network",
    "plain_setting",
    "ranks_rows",
    "read_new_rows",
    "reliabilities",
    "remarks",
    "risk",
    "rows_of",
    "same_data",
    "summary",
    "tune",
    "usual_batch_size",
    "usual_epochs",
    "usual_length",
    "usual_network",
    "usual_schedule",
    "usual_space",
    "with_ids",
    "with_unit_targets",
]
