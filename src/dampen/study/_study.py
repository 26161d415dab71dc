"""A finished study: what was tried, what it showed, and the networks that came out."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from dampen._checks import as_path, integer
from dampen._hooks import WRITERS
from dampen._language import shown
from dampen.data import Data, Preprocessing
from dampen.engine import Model
from dampen.engine.knobs import Setting
from dampen.errors import DataWarning, InputError, NotExported
from dampen.metrics import CALIBRATED
from dampen.search import SEARCH, Importance, Ranked, Training, export_to_optuna, importance
from dampen.study import _protocol, _tempering
from dampen.study._best_model import Exported, Winner
from dampen.study._calibrate import Method, calibrate, single_pass_if_no_dropout
from dampen.study._calibrated import CalibratedStudy
from dampen.study._description import Description
from dampen.study._distilled import Distilled
from dampen.study._fresh import FreshResults
from dampen.study._saved import SavedResults
from dampen.study._verdict import Verdict
from dampen.uncertainty import LEVEL

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class Study:
    """A finished study: the same whether `tune` has just returned it or `load_study` reads it from its folder.

    Printing it gives the verdict; a notebook shows that with a picture of the gain.

    Args:
        results: what it found: in memory, or in a folder.
    """

    def __init__(self, results: FreshResults | SavedResults):
        self.results = results

    @classmethod
    def load(
        cls,
        folder: str | Path,
        data: Data | None = None,
        model: Model | None = None,
        *,
        data_dir: str | Path | None = None,
    ) -> "Study":
        """Return a finished study from its folder; nothing is trained, and the data that it was made on is not needed.

        What it found is read at once. Networks, curves and data are read, and checked, when they are first needed.

        Args:
            folder: where `tune` or `compare` kept it.
            data: what it was made on; by default read again by its name or file when it is needed.
            model: what made its network, needed for networks that are not dampen's own; `report`, `verdict` and
                `frame` do without.
            data_dir: where data is looked for that has to be loaded, as in `load`.

        Raises:
            InputError: there is no finished study, it is damaged or of an older version, or `data` is other data.
        """
        return cls(SavedResults(folder, data, model, data_dir))

    def __str__(self) -> str:
        return "\n".join(map(shown, self.sentences()))

    def __repr__(self) -> str:
        where = "in memory" if self.folder is None else f"in {str(self.folder)!r}"
        return f"<Study of {self.results.name!r} {where}>"

    def _repr_html_(self) -> str:
        return WRITERS["html"](self.document())

    @property
    def folder(self) -> Path | None:
        """Where it is kept; None in memory."""
        return self.results.folder

    @property
    def verdict(self) -> Verdict:
        """Which setting and length, how sure, against what."""
        return self.results.verdict

    @property
    def recommended(self) -> Training:
        """The recommended setting with its length."""
        return self.results.recommended

    @property
    def setting(self) -> Setting:
        """The recommended setting."""
        return self.recommended.setting

    @property
    def test(self) -> dict[str, dict[str, Any]]:
        """Metrics on the test rows, by `recommended`, the references' names and `ensemble`; empty without test rows.

        Each has its mean and interval; `against` is the recommended one's metric minus this one's.
        """
        return self.results.test

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.results.seconds

    @property
    def member_epochs(self) -> float:
        """How often members passed over the training rows, all members of all phases together."""
        return self.results.member_epochs

    @property
    def ranked(self) -> tuple[Ranked, ...]:
        """What each rung of the search found; empty for a comparison of one length."""
        return self.results.ranked

    @property
    def plan(self) -> _protocol.Plan:
        """What was done, of a study that is in memory; `document()["plan"]` has it of any.

        Raises:
            InputError: the study was read from its folder.
        """
        if isinstance(self.results, SavedResults):
            raise InputError('a study that was read from its folder has its plan in document()["plan"]')
        return self.results.plan

    @property
    def data(self) -> Data:
        """What the study was made on; a regression target has mean 0 and deviation 1.

        Raises:
            InputError: the study was read from its folder, and the data is gone, has changed, or was in memory.
        """
        return self.results.data

    @property
    def target_scale(self) -> tuple[float, float]:
        """Mean and deviation of a regression target before that; 0 and 1 for classes."""
        return self.results.target_scale

    @property
    def description(self) -> Description:
        """What the data was like, without a row of it."""
        return self.results.predictor.description

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How raw rows become the network's inputs, for rows to come; None where the data is no table."""
        return self.results.preprocessing

    @property
    def loss(self) -> str | None:
        """The name of the loss by which networks were trained; None for the usual one of the task."""
        return self.results.predictor.loss

    def model(self) -> nn.Module:
        """Return a network with the recommended setting, trained on training and validation rows, evaluation mode.

        For numbers it gives `(target - mean) / deviation` with the two of `target_scale`. How sure it is of classes is
        as training has left it, which a study by `calibrated-nll` has not looked at: see `ensemble` and `calibrated`.
        """
        return self.results.population.member(self.setting, self.results.population.seeds[0])

    def ensemble(self, n: int | None = None) -> list[nn.Module]:
        """Return networks whose mean predicts: by default those of the recommended setting, one for each seed.

        With n, they are of several settings: greedy selection with replacement (Caruana et al. 2004) among the
        trainings that were confirmed, by what their networks predict for rows that they have not seen; see
        `dampen.search.select_ensemble`. It begins with the recommended training, so that one network has the
        weights of `model`; each further draw of a training is a network of another seed, trained on training and
        validation rows. Test rows have no part in it. Predicting a row takes a pass of each network: n passes.

        Where the study's metric is `calibrated-nll`, the networks' outputs are divided by a temperature, fitted on rows
        that those of the confirmation have not seen: that metric leaves it open how sure a network is. Several are
        only made surer, as their mean is less sure than each of them; `calibrated` fits what that mean predicts, where
        there were folds what single networks do.

        Args:
            n: how many networks; at most as many as have been confirmed, one for each training and seed.

        Raises:
            InputError: n below 1 or above what there is, or given for a study that was read from its folder.
        """
        if n is None:
            population = self.results.population
            networks = [population.member(self.setting, seed) for seed in population.seeds]
            if self.verdict.metric.name != CALIBRATED:
                return networks
            temperature = _tempering.of_networks(self.results.predictor.unseen, averaged=len(networks) > 1)
            return [_tempering.tempered(network, temperature) for network in networks]
        if isinstance(self.results, SavedResults):
            raise InputError(
                "a study that was read from its folder has no selection of networks: leave n out for the recommended "
                "setting's, or call ensemble(n) on the study that tune returns"
            )
        integer("n", n)
        return self.results.selected_networks(n)

    def distilled(self, n: int | None = None) -> Distilled:
        """Return a single network that has learnt the predictions of `ensemble(n)`, at the cost of one pass a row.

        A network with the recommended setting and length is trained on training and validation rows, its targets the
        ensemble's mean probabilities there (of a regression its mean predictions), by cross-entropy (squared error);
        Hinton, Vinyals and Dean (2015), equations 1 and 2 with temperature 1. Labels are not smoothed.

        How it compares with the ensemble and with a single network of the recommended setting is measured with networks
        that are trained for that without a fifth of the rows, of fewer than 1000 rows without each fifth in turn. Test
        rows have no part in it. All of it is trained on this machine when it is called.

        Args:
            n: size of the ensemble, 2 or more; None for the recommended setting's networks, one for each seed.

        Raises:
            InputError: n below 2 or above what there is, a loss other than cross-entropy or the squared error, rows
                that can't be split, or the study was read from its folder.

        Example:
            >>> import dampen
            >>> data, settings = dampen.load("iris"), [dampen.Setting(), dampen.Setting(lr=0.01)]
            >>> study = dampen.compare(dampen.mlp(4), data, settings, 2, epochs=1, validation="held-out")
            >>> found = study.distilled()
            >>> found.n_networks, sorted(found.values)
            (2, ['distilled', 'ensemble', 'single'])
        """
        if isinstance(self.results, SavedResults):
            raise InputError(
                "a study that was read from its folder has nothing to distil with: call distilled on the study that "
                "tune returns"
            )
        if n is not None:
            integer("n", n, 2)
        return self.results.distilled(n, self.ensemble(n))

    def calibrated(
        self,
        samples: int = 100,
        coverage: float = 0.9,
        seed: int = 0,
        *,
        ensemble: bool = False,
        calibrator: str = "auto",
        sets: str = "lac",
        level: float = LEVEL,
    ) -> CalibratedStudy:
        """Return what predicts new rows, calibrated on rows that took no part in the training of what predicts them.

        What calibrates probabilities (or the noise of values), the threshold of abstaining and the conformal one are
        fitted on those rows, as `dampen predict` does.

        Args:
            samples: Monte-Carlo dropout masks for each network; 0 for a single pass.
            coverage: share of rows to predict, abstaining from the least certain others; of classes also the share of
                rows whose prediction set is to hold the right class.
            seed: of the masks.
            ensemble: whether the networks of all seeds predict, or the first alone; of a regression by folds that is
                not in a folder, networks are trained for that.
            calibrator: of class probabilities: `temperature`, `vector`, `isotonic`, or `auto`: the temperature, unless
                another one is better on those rows by more than two standard errors, cross-fitted.
            level: of a regression's intervals: the share of rows whose interval is to hold the target.
            sets: which classes a prediction set holds: `lac`, `aps` or `raps`; see `dampen.uncertainty.SetRule`.

        Raises:
            InputError: an argument outside its range, or networks or rows to calibrate on that are gone or damaged.

        Warns:
            NotSampled: the recommended setting drops no units, so that a single pass predicts.
            DataWarning: the calibration rows are too few for the coverage, or for a temperature.

        Example:
            >>> import dampen
            >>> data, settings = dampen.load("diabetes"), [dampen.Setting(), dampen.Setting(lr=0.01)]
            >>> study = dampen.compare(dampen.mlp(4), data, settings, 2, epochs=1, validation="held-out")
            >>> found = study.calibrated(samples=0).predict(data)  # or a frame of new rows: of data the test rows
            >>> found.mean.shape, found.intervals.shape, found.abstain.shape
            ((111,), (111, 2), (111,))
        """
        predictor = self.results.predictor
        method = single_pass_if_no_dropout(predictor, Method(samples, ensemble, seed))
        calibration = calibrate(predictor, method, coverage, calibrator, sets, level)
        for note in calibration.notes:
            warnings.warn(note, DataWarning, stacklevel=2)
        return CalibratedStudy(self.results, method, calibration)

    def importance(self, epochs: int | None = None) -> Importance:
        """Return which knobs matter: a mapping from each that was searched to its share, the largest first.

        What the best settings of the search have in common, at one length of training, by PED-ANOVA (Watanabe, Bansal
        and Hutter 2023); see `dampen.search.importance`. `knobs` has intervals and tests, `n_settings` and `epochs`
        what it rests on.

        Args:
            epochs: the length at which settings are compared; by default the one that most of them trained for, a short
                one: it shows what matters there, such as learning rates. Only the better settings reach longer ones.

        Raises:
            InputError: fewer than 20 settings of that length, or a comparison, which has no search.
        """
        if not self.document()["plan"]["space"]:
            raise InputError("importance needs a search: the settings of a comparison were picked, not drawn")
        return importance(self.ranked, epochs)

    def frame(self) -> "pd.DataFrame":
        """Return all learning curves as a tidy pandas frame, with the phase that each belongs to.

        A study in memory without test rows has none of the phase `test`: what it recommends trains on all rows when its
        networks are asked for.
        """
        return self.results.frame()

    def sentences(self) -> list[str]:
        """Return the verdict in English words, and what the test rows add; printing the study shows the reader's."""
        return self.results.sentences()

    def report(self, path: str | Path) -> None:
        """Write the report as one HTML file that needs no network.

        Raises:
            InputError: it can't be written, or the study's curves are damaged.
        """
        WRITERS["report"](as_path("path", path), self.document(), self.frame(), self.results.rungs())

    def figure(self, name: str) -> "go.Figure":
        """Return a picture of the report as a plotly figure, to show in a notebook or to change.

        Args:
            name: `curves`, `differences`, `gain`, `landscape` or `lengths`.

        Raises:
            InputError: there is no such picture, or this study has nothing to draw there.

        Example:
            >>> import dampen
            >>> settings = [dampen.Setting(), dampen.Setting(dropout=0.3)]
            >>> study = dampen.compare(dampen.mlp(4), dampen.load("iris"), settings, 2, epochs=1, validation="held-out")
            >>> len(study.figure("differences").data)
            1
        """
        return WRITERS["figure"](name, self.document(), self.frame(), self.results.rungs())

    def winner(self) -> Winner:
        """Return the network of `model`, and all that its training followed from."""
        return self.results.winner()

    def export(self, folder: str | Path, *, onnx: bool = False, data: bool | None = None) -> Exported:
        """Write the recommended network for use without dampen; see `dampen.export.write` for its files.

        Args:
            folder: new, empty, or of an earlier export.
            onnx: whether to write `model.onnx`, too.
            data: whether to write the rows; None: if they are no more than 64 MiB.

        Raises:
            InputError: the folder holds something else or can't be written, or ONNX is not installed or can't hold the
                network.

        Warns:
            NotExported: `train.py` could not be written; the message has the reason.
        """
        exported = WRITERS["export"](self.winner(), as_path("folder", folder), onnx=onnx, data=data)
        if exported.refused is not None:
            warnings.warn(exported.refused, NotExported, stacklevel=2)
        return exported

    def export_to_optuna(self, storage: str, name: str | None = None) -> None:
        """Add the search's settings to an Optuna storage, so that optuna-dashboard shows them.

        Args:
            storage: URL, such as `sqlite:///studies.db`.
            name: of the study there; by default the data's.

        Raises:
            InputError: nothing was searched, the study was read from its folder, Optuna is not installed, or the
                storage can't take it.
        """
        if isinstance(self.results, SavedResults):
            raise InputError(
                "a study that was read from its folder can't be exported to Optuna: do so when it is made, or with "
                "dampen tune --resume --optuna"
            )
        plan = self.results.plan
        if not self.ranked or plan.space is None:
            raise InputError("a comparison has no search to export")
        rungs = [(rung.epochs, rung.settings, rung.costs) for rung in self.ranked if rung.family == SEARCH]
        export_to_optuna(storage, name or plan.data.name, plan.space, rungs)

    def document(self) -> dict[str, Any]:
        """Return what was found as JSON can hold it."""
        return self.results.document()
