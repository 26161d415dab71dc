"""Ensembles that have not seen some rows: those on which what an ensemble predicts is calibrated."""

from dataclasses import dataclass
from functools import cached_property

from torch import nn

from dampen.data import Data, Rows
from dampen.engine import Population
from dampen.engine.knobs import Setting
from dampen.study._confirmation import Confirmed
from dampen.study._runner import CALIBRATION, Runner
from dampen.study._storage import POPULATION

Ensemble = tuple[tuple[nn.Module, ...], Rows]
"""Networks, with rows that none of them has seen."""


@dataclass(frozen=True, eq=False)
class CalibrationEnsembles:
    """As many networks as predict, with the recommended setting and length, and rows that none of them has seen.

    Where rows were held out, these are the confirmation's networks. Where there were folds, each of its networks has
    rows of its own, and no ensemble has any: of numbers each fold is then left out by an ensemble that is trained for
    it, for one network does not differ from itself. Probabilities of classes are calibrated by single networks as well.

    Args:
        runner: trains.
        confirmed: what is recommended, and the confirmation's networks.
    """

    runner: Runner
    confirmed: Confirmed

    @property
    def of_folds(self) -> bool:
        """Whether networks have to be trained for it."""
        return self.runner.plan.calibrates_ensembles

    @property
    def kept(self) -> bool:
        """Whether the folder has those networks."""
        folder = self.runner.folder
        return folder is not None and (folder.path / "checkpoints" / CALIBRATION / POPULATION).is_file()

    @cached_property
    def population(self) -> Population:
        """The networks, trained when they are first needed."""
        training = self.confirmed.recommended
        if not self.of_folds:
            return self.confirmed.trained.population(training)
        return self.runner.train(CALIBRATION, CALIBRATION, [training.setting], training.epochs, training.stopped_at)

    @property
    def rows(self) -> list[Rows]:
        """The rows of each ensemble."""
        if not self.of_folds:
            evaluation_rows = self.confirmed.evaluation.rows.evaluation
            return evaluation_rows if isinstance(evaluation_rows, list) else [evaluation_rows]
        return [fold.validation for fold in self.folds]

    @property
    def folds(self) -> list[Data]:
        """The data of each ensemble, whose validation rows are left out; one for all of its networks."""
        return (self.runner.rows(CALIBRATION).of_seeds or [])[:: len(self.runner.plan.confirm_seeds)]

    def get(self) -> list[Ensemble]:
        """Return the ensembles."""
        return ensembles_of(self.population, self.confirmed.recommended.setting, self.rows)


def ensembles_of(population: Population, setting: Setting, rows: list[Rows]) -> list[Ensemble]:
    """Return a population's networks of one setting in as many ensembles as there are sets of rows."""
    each = len(population.seeds) // len(rows)
    networks = [population.member(setting, seed).float() for seed in population.seeds]
    return [(tuple(networks[i * each : (i + 1) * each]), part) for i, part in enumerate(rows)]
