"""Pictures of what was found."""

from dampen.report._dropout import draw_dropout
from dampen.report._explore import draw_answer
from dampen.report._pictures import check_picture
from dampen.report._predictions import draw_predictions
from dampen.report._study import write_study
from dampen.report._trust import write_trust
from dampen.report._weight_decay import draw_weight_decay_comparison, draw_weight_decay_path, forgetting

__all__ = [
    "check_picture",
    "draw_answer",
    "draw_dropout",
    "draw_predictions",
    "draw_weight_decay_comparison",
    "draw_weight_decay_path",
    "forgetting",
    "write_study",
    "write_trust",
]
