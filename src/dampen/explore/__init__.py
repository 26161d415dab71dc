"""Questions about regularisation, answered by training: each with a picture and a sentence with its interval."""

from dampen.explore._answer import Answer, Line, Panel, Points
from dampen.explore._ground import Ground, ground
from dampen.explore._questions import QUESTIONS, Question, explore

__all__ = ["QUESTIONS", "Answer", "Ground", "Line", "Panel", "Points", "Question", "explore", "ground"]
