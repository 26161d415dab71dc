"""Other people's loops: what lets them use dampen where a few lines of a recipe are not enough."""

from dampen.integrations._optuna import Objective, objective

__all__ = ["Objective", "objective"]
