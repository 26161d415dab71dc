"""Spaces of settings, and how a search draws from them."""

from dampen.search._optuna import Tpe, check_optuna, check_storage, export_to_optuna
from dampen.search._space import METHODS, Choice, Dimension, Fixed, LogUniform, PerLayer, Space, Uniform

__all__ = [
    "METHODS",
    "Choice",
    "Dimension",
    "Fixed",
    "LogUniform",
    "PerLayer",
    "Space",
    "Tpe",
    "Uniform",
    "check_optuna",
    "check_storage",
    "export_to_optuna",
]
