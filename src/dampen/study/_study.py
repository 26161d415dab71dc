"""A finished study: what was tried, what it showed, and the network that came out."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dampen._hooks import WRITERS
from dampen.data import Preprocessing
from dampen.engine import Population
from dampen.errors import InputError, NotExported
from dampen.search import export_to_optuna
from dampen.study import _protocol
from dampen.study._best_model import Exported, Winner, winner_of
from dampen.study._calibration_ensembles import CalibrationEnsembles
from dampen.study._on_test_rows import on_test_rows
from dampen.study._references import SEARCH
from dampen.study._search import Ranked
from dampen.study._training import Training
from dampen.study._verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Study:
    """A finished search: what was tried, what it showed, and the network that came out.

    Args:
        plan: what was done.
        ranked: what each rung of the search found; empty for a comparison of one length.
        verdict: which setting and length, how sure, against what.
        test: by `recommended`, the references' names and `ensemble`: metrics on the test rows, each with its mean and
            interval, and `against`: the recommended one's metric minus this one's; empty where there are no test rows.
        seconds: spent.
        member_epochs: how often members passed over the training rows, all members of all phases together.
        recommended: setting and length.
        calibration: ensembles with rows that none of their networks has seen.
        folder: where it is kept, if anywhere.
    """

    plan: _protocol.Plan
    ranked: tuple[Ranked, ...]
    verdict: Verdict
    test: dict[str, dict[str, Any]]
    seconds: float
    _curves: "pd.DataFrame"
    member_epochs: float
    recommended: Training
    _last: Population
    _checkpoints: Mapping[str, str]
    calibration: CalibrationEnsembles
    folder: Path | None = None

    def model(self) -> nn.Module:
        """Return a network with the recommended setting, trained on training and validation rows, evaluation mode.

        For numbers it gives `(target - mean) / deviation` with the two of `plan.target_scale`.
        """
        return self._last.member(self.verdict.recommended, self._last.seeds[0])

    def ensemble(self) -> list[nn.Module]:
        """Return the networks of the recommended setting, one for each seed."""
        return [self._last.member(self.verdict.recommended, seed) for seed in self._last.seeds]

    def preprocessing(self) -> Preprocessing | None:
        """Return how raw rows become the network's inputs, for rows to come; None where the data is no table."""
        return Preprocessing.of(_protocol.training_and_validation_rows(self.plan.data))

    def frame(self) -> "pd.DataFrame":
        """Return all learning curves as a tidy pandas frame, with the phase that each belongs to."""
        return self._curves

    def sentences(self) -> list[str]:
        """Return the verdict in words, and what the test rows add to it."""
        return [*self.verdict.sentences(), *on_test_rows(self.test, self.verdict)]

    def report(self, path: str | Path) -> None:
        """Write the report as one HTML file that needs no network.

        Raises:
            InputError: it can't be written.
        """
        rungs = [rung.document(self.plan) for rung in self.ranked]
        WRITERS["report"](Path(path), self.document(), self.frame(), rungs)

    def winner(self) -> Winner:
        """Return the network of `model`, and all that its training followed from."""
        plan, rows = self.plan, _protocol.training_and_validation_rows(self.plan.data)
        recommended = self.verdict.recommended
        return winner_of(
            self._last, plan.model, rows, plan.target_scale, recommended, self.recommended.epochs, plan.training
        )

    def export(self, folder: str | Path, *, onnx: bool = False, data: bool | None = None) -> Exported:
        """Write the recommended network for use without dampen; see `dampen.export.write`, which says what is written.

        Args:
            folder: new, empty, or of an earlier export.
            onnx: whether to write `model.onnx`, too.
            data: whether to write the rows; None: if they are no more than 64 MiB.

        Raises:
            InputError: the folder holds something else or can't be written, or ONNX is not installed or can't hold the
                network.

        Warns:
            NotExported: `train.py` could not be written; the message says why.
        """
        found = WRITERS["export"](self.winner(), Path(folder), onnx=onnx, data=data)
        if found.refused is not None:
            warnings.warn(found.refused, NotExported, stacklevel=2)
        return found

    def export_to_optuna(self, storage: str, name: str | None = None) -> None:
        """Add the search's settings to an Optuna storage, so that optuna-dashboard shows them.

        Args:
            storage: URL, such as `sqlite:///studies.db`.
            name: of the study there; by default the data's.

        Raises:
            InputError: nothing was searched, Optuna is not installed, or the storage can't take it.
        """
        if not self.ranked or self.plan.space is None:
            raise InputError("a comparison has no search to export")
        rungs = [(rung.epochs, rung.settings, rung.costs) for rung in self.ranked if rung.family == SEARCH]
        export_to_optuna(storage, name or self.plan.data.name, self.plan.space, rungs)

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
                "epochs": int(self._curves["length"].to_numpy().max()),
                "member_epochs": self.member_epochs,
            },
            "seconds": self.seconds,
            "checkpoints": dict(self._checkpoints),
            "folder": None if self.folder is None else str(self.folder),
            "plan": plan.document(),
        }
