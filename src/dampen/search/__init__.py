"""Spaces of settings, and how a search draws from them."""

from dampen.search._halving import Bracket, Rung, brackets, rungs
from dampen.search._optuna import TpeSampler, check_optuna, check_storage, export_to_optuna
from dampen.search._space import METHODS, Choice, Dimension, Fixed, LogUniform, PerLayer, Space, Uniform
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

__all__ = [
    "METHODS",
    "STRATEGIES",
    "TPE",
    "Bracket",
    "Choice",
    "Dimension",
    "Fixed",
    "Grid",
    "Hyperband",
    "LogUniform",
    "PerLayer",
    "Random",
    "Rung",
    "Sobol",
    "Space",
    "Strategy",
    "SuccessiveHalving",
    "TpeSampler",
    "Uniform",
    "brackets",
    "check_optuna",
    "check_storage",
    "export_to_optuna",
    "rungs",
    "strategy_of",
]
