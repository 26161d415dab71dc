"""Experiments with regularisation: two studies for learners, and questions; each with a picture and its intervals."""

from importlib import import_module
from typing import TYPE_CHECKING

from dampen.experiments._answer import Answer, Line, Panel, Points
from dampen.experiments._registry import QUESTIONS, Question, explore
from dampen.experiments._setup import Ground, ground

if TYPE_CHECKING:
    from dampen.experiments._answer_picture import draw_answer
    from dampen.experiments._dropout_picture import draw_dropout
    from dampen.experiments._weight_decay_picture import (
        draw_weight_decay_comparison,
        draw_weight_decay_path,
        forgetting,
    )

# Imported at their first use: matplotlib takes half a second.
_PICTURES = {
    "draw_answer": "_answer_picture",
    "draw_dropout": "_dropout_picture",
    "draw_weight_decay_comparison": "_weight_decay_picture",
    "draw_weight_decay_path": "_weight_decay_picture",
    "forgetting": "_weight_decay_picture",
}

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


def __getattr__(name: str) -> object:
    if name not in _PICTURES:
        raise AttributeError(f"module 'dampen.experiments' has no attribute {name!r}")
    return getattr(import_module(f"dampen.experiments.{_PICTURES[name]}"), name)
