"""`tune` and `compare`: a search over settings, the verdict on it, and the folder that keeps both."""

from dampen.study._best_model import Exported, Winner
from dampen.study._budget import check_budget
from dampen.study._calibrate import Method, calibrate
from dampen.study._calibrated import CalibratedStudy, labelled, rows_of
from dampen.study._checks import check_network
from dampen.study._choose_loss import AUTO
from dampen.study._compare import compare
from dampen.study._config import read as read_config
from dampen.study._config import written as written_config
from dampen.study._defaults import (
    usual_batch_size,
    usual_epochs,
    usual_length,
    usual_network,
    usual_schedule,
    usual_space,
)
from dampen.study._description import Description
from dampen.study._distilled import Distilled
from dampen.study._embedded import with_ids
from dampen.study._findings import Against
from dampen.study._fresh import FreshResults
from dampen.study._kept import RUNS, Kept, in_words, kept, remove_study, side_by_side, study_folder
from dampen.study._kept import check_removable as check_removable_study
from dampen.study._new_rows import holds_images, is_npz, read_new_rows
from dampen.study._predictor import Predictor
from dampen.study._runner import Progress, costs_of_rows, workers_of
from dampen.study._saved import SavedResults, finished, of_own_network, same_data
from dampen.study._setting_text import worth_saying
from dampen.study._study import Study
from dampen.study._tune import tune
from dampen.study._verdict import Verdict
from dampen.study._verdict_text import BEATEN
from dampen.study._verdict_text import NAMES as REFERENCE_NAMES

load_study = Study.load

__all__ = [
    "AUTO",
    "BEATEN",
    "REFERENCE_NAMES",
    "RUNS",
    "Against",
    "CalibratedStudy",
    "Description",
    "Distilled",
    "Exported",
    "FreshResults",
    "Kept",
    "Method",
    "Predictor",
    "Progress",
    "SavedResults",
    "Study",
    "Verdict",
    "Winner",
    "calibrate",
    "check_budget",
    "check_network",
    "check_removable_study",
    "compare",
    "costs_of_rows",
    "finished",
    "holds_images",
    "in_words",
    "is_npz",
    "kept",
    "labelled",
    "load_study",
    "of_own_network",
    "read_config",
    "read_new_rows",
    "remove_study",
    "rows_of",
    "same_data",
    "side_by_side",
    "study_folder",
    "tune",
    "usual_batch_size",
    "usual_epochs",
    "usual_length",
    "usual_network",
    "usual_schedule",
    "usual_space",
    "with_ids",
    "workers_of",
    "worth_saying",
    "written_config",
]
