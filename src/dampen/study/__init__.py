"""`tune` and `compare`: a search over settings, the verdict on it, and the folder that keeps both."""

from dampen.study._best_model import Exported, Winner
from dampen.study._budget import check_budget
from dampen.study._calibrated import Calibration, Method, answer, calibrate, labelled
from dampen.study._checks import check_network, with_ids
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
from dampen.study._kept import Kept, inputs_of, open_study, same_data
from dampen.study._metric_summaries import refusal, reliabilities, remarks, risk, summary, tells_rows_apart
from dampen.study._metrics import METRICS, Metric
from dampen.study._metrics import find as find_metric
from dampen.study._protocol import held_out, with_unit_targets
from dampen.study._results import Results, finished, read_results
from dampen.study._runner import Progress, costs_of_rows
from dampen.study._study import Study
from dampen.study._training import Training
from dampen.study._training import plain as plain_setting
from dampen.study._tune import tune
from dampen.study._verdict import Against, Verdict
from dampen.study._verdict_text import BEATEN
from dampen.study._verdict_text import NAMES as REFERENCE_NAMES

__all__ = [
    "BEATEN",
    "METRICS",
    "REFERENCE_NAMES",
    "Against",
    "Calibration",
    "Description",
    "Exported",
    "Kept",
    "Method",
    "Metric",
    "Progress",
    "Results",
    "Study",
    "Training",
    "Verdict",
    "Winner",
    "answer",
    "calibrate",
    "check_budget",
    "check_network",
    "compare",
    "costs_of_rows",
    "find_metric",
    "finished",
    "held_out",
    "inputs_of",
    "labelled",
    "open_study",
    "plain_setting",
    "read_results",
    "refusal",
    "reliabilities",
    "remarks",
    "risk",
    "same_data",
    "summary",
    "tells_rows_apart",
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
