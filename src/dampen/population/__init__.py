"""The engine: members that share one architecture, trained in lockstep."""

from dampen.population._history import Epoch, History
from dampen.population._population import Population
from dampen.population._solo import Solo, solo

__all__ = ["Epoch", "History", "Population", "Solo", "solo"]
