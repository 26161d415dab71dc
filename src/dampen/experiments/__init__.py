"""Questions about regularisation, answered by training: each with a picture and a sentence with its interval."""

from dampen.experiments._answer import Answer, Line, Panel, Points
from dampen.experiments._registry import QUESTIONS, Question, explore
from dampen.experiments._setup import Ground, ground

__all__ = ["QUESTIONS", "Answer", "Ground", "Line", "Panel", "Points", "Question", "explore", "ground"]
