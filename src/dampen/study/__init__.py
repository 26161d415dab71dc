"""`tune` and `compare`: a search over settings, the verdict on it, and the folder that keeps both."""

from dampen.study._metrics import METRICS, Metric
from dampen.study._metrics import find as find_metric
from dampen.study._plan import with_unit_targets
from dampen.study._run import Progress, costs_of_rows
from dampen.study._study import Study, compare, tune
from dampen.study._verdict import Against, Verdict

__all__ = [
    "METRICS",
    "Against",
    "Metric",
    "Progress",
    "Study",
    "Verdict",
    "compare",
    "costs_of_rows",
    "find_metric",
    "tune",
    "with_unit_targets",
]
