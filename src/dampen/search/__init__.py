"""Spaces of settings, and how a search draws from them."""

from dampen.search._ensemble_selection import select_ensemble
from dampen.search._halving import Bracket, Rung, brackets, rungs
from dampen.search._importance import Importance, KnobImportance, enough_for_importance, importance
from dampen.search._optuna import TpeSampler, check_optuna, check_storage, export_to_optuna, propose
from dampen.search._promotion import CROSSINGS, around, crossings, left_out, longer, not_yet_longer, promoted
from dampen.search._ranked import AROUND, SEARCH, Ranked, best, best_calibrated, best_costs, best_stop
from dampen.search._space import METHODS, Choice, Dimension, Fixed, LogUniform, PerLayer, Space, Uniform, check_space
from dampen.search._strategies import (
    STRATEGIES,
    TPE,
    Grid,
    Hyperband,
    Random,
    Sobol,
    Strategy,
    SuccessiveHalving,
    strategy_of,
)
from dampen.search._training import Training

__all__ = [
    "AROUND",
    "CROSSINGS",
    "METHODS",
    "SEARCH",
    "STRATEGIES",
    "TPE",
    "Bracket",
    "Choice",
    "Dimension",
    "Fixed",
    "Grid",
    "Hyperband",
    "Importance",
    "KnobImportance",
    "LogUniform",
    "PerLayer",
    "Random",
    "Ranked",
    "Rung",
    "Sobol",
    "Space",
    "Strategy",
    "SuccessiveHalving",
    "TpeSampler",
    "Training",
    "Uniform",
    "around",
    "best",
    "best_calibrated",
    "best_costs",
    "best_stop",
    "brackets",
    "check_optuna",
    "check_space",
    "check_storage",
    "crossings",
    "enough_for_importance",
    "export_to_optuna",
    "importance",
    "left_out",
    "longer",
    "not_yet_longer",
    "promoted",
    "propose",
    "rungs",
    "select_ensemble",
    "strategy_of",
]
