"""Experiments with regularisation: two studies for learners, and questions; each with a picture and its intervals."""

from dampen.experiments._answer import Answer, Line, Panel, Points
from dampen.experiments._answer_picture import draw_answer
from dampen.experiments._dropout_picture import draw_dropout
from dampen.experiments._registry import QUESTIONS, Question, explore
from dampen.experiments._setup import Ground, ground
from dampen.experiments._weight_decay_picture import (
    draw_weight_decay_comparison,
    draw_weight_decay_path,
    forgetting,
)

__all__ = [
    "QUESTIONS",
    "Answer",
    "Ground",
    "Line",
    "Panel",
    "Points",
    "Question",
    "draw_answer",
    "draw_dropout",
    "draw_weight_decay_comparison",
    "draw_weight_decay_path",
    "explore",
    "forgetting",
    "ground",
]
