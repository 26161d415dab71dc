"""`tune` and `compare`: a search over settings, the verdict on it, and the folder that keeps both."""

from dampen.study._run import Progress
from dampen.study._study import Study, compare, tune
from dampen.study._verdict import Against, Verdict

__all__ = ["Against", "Progress", "Study", "Verdict", "compare", "tune"]
