"""The results of a study that has just been made, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dampen.data import Data, Preprocessing, Rows, training_and_validation_rows
from dampen.engine import Population
from dampen.search import Ranked, Training
from dampen.study._best_model import Winner, winner_of
from dampen.study._calibration_ensembles import CalibrationEnsembles
from dampen.study._description import Description
from dampen.study._distilled import Distilled, distil
from dampen.study._on_test_rows import on_test_rows
from dampen.study._phases import folds_a_round
from dampen.study._predictor import Predictor
from dampen.study._protocol import Plan
from dampen.study._runner import Trained
from dampen.study._selected_ensemble import most_networks, networks_of, selected
from dampen.study._verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class FreshResults:
    """What a study found, before anybody has closed it.

    Args:
        plan: what was done.
        ranked: what each rung of the search found; empty for a comparison of one length.
        verdict: which setting and length, how sure, against what.
        test: metrics on the test rows, see `Study.test`.
        seconds: spent.
        member_epochs: how often members passed over the training rows, all members of all phases together.
        recommended: setting and length.
        calibration: ensembles with rows that none of their networks has seen.
        curves: all learning curves.
        trained: what has trained on training and validation rows, and can: what is recommended may not have yet.
        checkpoints: names of the folder's populations that have the recommended setting, by phase.
        folder: where it is kept, if anywhere.
    """

    plan: Plan
    ranked: tuple[Ranked, ...]
    verdict: Verdict
    test: dict[str, dict[str, Any]]
    seconds: float
    member_epochs: float
    recommended: Training
    calibration: CalibrationEnsembles
    curves: "pd.DataFrame"
    trained: Trained
    checkpoints: Mapping[str, str]
    folder: Path | None = None

    @property
    def name(self) -> str:
        """What the data is called."""
        return self.plan.data.name

    @property
    def data(self) -> Data:
        """What the study was made on; a regression target has mean 0 and deviation 1."""
        return self.plan.data

    def made_on(self, data: object) -> bool:
        """Return whether data is `data`, that very object."""
        return data is self.plan.data

    @property
    def target_scale(self) -> tuple[float, float]:
        """Mean and deviation of a regression target before that."""
        return self.plan.target_scale

    @property
    def reading(self) -> Mapping[str, Any]:
        """How the data was read: arguments of `load`; empty for data in memory."""
        return self.plan.data.reading or {}

    @property
    def population(self) -> Population:
        """Networks with the recommended setting on training and validation rows, trained if they have not been."""
        self.trained.add([self.recommended])
        return self.trained.population(self.recommended)

    @cached_property
    def _final_data(self) -> Data:
        return training_and_validation_rows(self.plan.data)

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How raw rows become the networks' inputs; None where the data is no table."""
        return Preprocessing.of(self._final_data)

    def _networks(self) -> tuple[nn.Module, ...]:
        population = self.population
        return tuple(population.member(self.verdict.recommended, seed).float() for seed in population.seeds)

    @cached_property
    def predictor(self) -> Predictor:
        """The networks that predict, and those that predictions are calibrated with."""
        confirmed, recommended = self.calibration.confirmed, self.recommended
        population, setting = confirmed.trained.population(recommended), self.verdict.recommended
        sets, seeds = confirmed.evaluation.rows.sets, population.seeds
        rows: list[Rows] = [sets.validation] * len(seeds) if isinstance(sets, Data) else [d.validation for d in sets]
        return Predictor(
            description=Description.of(self._final_data),
            target_scale=self.plan.target_scale,
            setting=setting,
            trained=self._networks,
            unseen=tuple(
                (population.member(setting, seed).float(), part) for seed, part in zip(seeds, rows, strict=True)
            ),
            scheme=self.plan.scheme,
            folds=folds_a_round(self.plan.data),
            left_out=self.calibration.get if self.calibration.of_folds else None,
            loss=None if self.plan.training.loss is None else str(self.plan.training.loss),
        )

    def selected(self, n: int) -> list[tuple[Training, int]]:
        """Return the trainings of an ensemble of n networks, with how many of each; see `Study.ensemble`."""
        return selected(self.calibration.runner, self.calibration.confirmed, n)

    @property
    def most_networks(self) -> int:
        """How many networks `selected` can choose at most."""
        return most_networks(self.calibration.runner, self.calibration.confirmed)

    def selected_networks(self, n: int) -> list[nn.Module]:
        """Return the networks of `selected`, trained when they are asked for."""
        return networks_of(self.calibration.runner, self.selected(n), self.trained, self.calibration.confirmed)

    def distilled(self, n: int | None, networks: Sequence[nn.Module]) -> Distilled:
        """Return a network distilled from those of an ensemble of n; see `Study.distilled`."""
        plan, runner = self.plan, self.calibration.runner
        chosen = [(self.recommended, len(networks))] if n is None else self.selected(n)
        return distil(plan, runner.model, self.recommended, chosen, networks, runner.seeds("test"))

    def winner(self) -> Winner:
        """Return the first of the networks, and all that its training followed from."""
        plan, epochs = self.plan, self.recommended.epochs
        return winner_of(
            self.population,
            plan.model,
            self._final_data,
            plan.target_scale,
            self.verdict.recommended,
            epochs,
            plan.training,
        )

    def frame(self) -> "pd.DataFrame":
        """Return all learning curves."""
        return self.curves

    def rungs(self) -> list[dict[str, Any]]:
        """Return what each rung of the search found, as JSON can hold it."""
        return [self.plan.rung_document(rung) for rung in self.ranked]

    def sentences(self) -> list[str]:
        """Return the verdict in words, and what the test rows add to it."""
        return [*self.verdict.sentences(), *on_test_rows(self.test, self.verdict)]

    def document(self) -> dict[str, Any]:
        """Return what was found as JSON can hold it."""
        plan = self.plan
        return {
            "data": plan.data.name,
            "columns": [] if plan.data.columns is None else plan.data.columns.document(plan.data.outputs),
            "notes": [*plan.data.notes, *plan.notes],
            **self.verdict.document(),
            "sentences": self.sentences(),
            "test": self.test,
            "trained": {
                "settings": plan.settings,
                "seeds": len(plan.seeds),
                "members": plan.settings * len(plan.seeds),
                "epochs": int(self.curves["length"].to_numpy().max()),
                "member_epochs": self.member_epochs,
            },
            "seconds": self.seconds,
            "checkpoints": dict(self.checkpoints),
            "folder": None if self.folder is None else str(self.folder),
            "plan": plan.document(),
        }
