"""Pictures of what was found."""

from dampen.report._notebook import study_html
from dampen.report._page import TRUST, check_page
from dampen.report._predictions import draw_predictions
from dampen.report._study import study_figure, write_study
from dampen.report._trust import write_trust
from dampen.report.pictures import check_picture

__all__ = [
    "TRUST",
    "check_page",
    "check_picture",
    "draw_predictions",
    "study_figure",
    "study_html",
    "write_study",
    "write_trust",
]
