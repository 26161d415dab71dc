"""`DampenClassifier` and `DampenRegressor`."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float64, Shaped
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from dampen._checks import is_number
from dampen._io import counted
from dampen.engine import Model
from dampen.errors import InputError
from dampen.estimators._arguments import by_class, check_class_weight, weights_of
from dampen.estimators._base import LEAST_ROWS, Dampen
from dampen.estimators._noise import Noise, noise
from dampen.estimators._rows import merged
from dampen.estimators._uncertainty import ClassUncertainty, ValueUncertainty, of_classes, of_values
from dampen.uncertainty import ClassPrediction, ValuePrediction, conformal, intervals, most_coverage

_UNITS = 1e-6, 1e12  # deviations of a target between which its squares are float32 numbers
_HELD = 1e-150, 1e150  # sizes of targets whose squares are numbers, too


class DampenClassifier(ClassifierMixin, Dampen):
    """A classifier whose network is regularised as much as the data needs.

    `fit` searches weight decay, dropout and learning rate for all settings at once (`dampen.tune`), and trains the
    winner on all rows with several seeds, from 1000 rows on the best settings together; `predict_proba` averages the
    probabilities of these networks (see `n_ensemble`). Numbers are scaled by their
    median and quartiles, missing ones filled in; columns of a frame that are no numbers become inputs as `dampen.load`
    reads them. Equal rows count as one with their weights' sum. Below 50 different rows nothing can be ranked: the
    published default for tables is used, and `tuned_` is False.

    Args:
        hidden: widths of the hidden layers; by default 64 and 32, from 1000 rows on 256 and 128.
        model: what makes another network, as for `dampen.tune`.
        space: where settings are drawn from, as for `dampen.tune`.
        cocktail: search every regulariser that can act, each on or off, as for `dampen.tune`: takes far longer.
        n_settings: how many are tried; by default 16, of a cocktail 512; with a `model` of your own from 1000 rows on
            32.
        n_seeds: of each setting in the search; by default 2, of a cocktail and from 1000 rows on 1.
        epochs: length of the longest training; by default 80 from 1000 rows on (from 8000 on 2500 steps, at least
            10), below that 600 steps (of numbers twice as long), at least 10 and at most 200 epochs (400). With a
            `model` of your own or a cocktail: 600 steps, and 1000 from 1000 rows on.
        n_confirm_seeds: of each setting in the verdict, and of the networks that predict.
        n_ensemble: how many networks predict, each a pass over the rows: 1 for a single one, more for a greedy
            selection among the confirmed settings (Caruana et al. 2004; see `Study.ensemble`); by default 8 from 1000
            rows on, below that, of numbers, and with a `model` of your own or a cocktail the recommended setting's, one
            for each of `n_confirm_seeds`.
        metric: what ranks settings, as for `dampen.tune`; by default `nll`, from 1000 rows on `calibrated-nll` for
            dampen's own network, whose probabilities then have a temperature.
        batch_size: rows a step; by default 32, from 1000 rows on 256; with a `model` of your own or a cocktail 32, from
            5000 rows on 128.
        cv: folds by which the study evaluates, in place of its own: an int, a splitter of scikit-learn, or pairs of
            row numbers (train, test), as for scikit-learn's estimators (`sklearn.model_selection.check_cv`). The search
            uses the first `n_seeds` of them, the verdict all: it has at least as many seeds as there are folds. They
            must train on about equally many rows.
        device: where to train.
        cluster: as for `tune`: trains on the workers of a Ray cluster; None: on this machine.
        class_weight: a mapping from class to weight, `balanced`, or None.
        random_state: from which everything random follows.

    Attributes:
        classes_: the classes.
        setting_: the recommended knobs.
        tuned_: whether settings were compared.
        verdict_: the verdict in sentences.
        study_: the `dampen.Study`; not there after unpickling or without tuning.
        networks_: ordinary networks in evaluation mode, whose mean predicts.
        preprocessing_: from rows to their inputs.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> model = DampenClassifier((8,), n_settings=4, epochs=10, random_state=0).fit(X, y)
        >>> model.predict_proba(X[:2]).shape
        (2, 3)
    """

    def __init__(
        self,
        hidden: Sequence[int] | None = None,
        *,
        model: Model | None = None,
        space: Mapping[str, Any] | None = None,
        cocktail: bool = False,
        n_settings: int | None = None,
        n_seeds: int | None = None,
        epochs: int | None = None,
        n_confirm_seeds: int = 5,
        n_ensemble: int | None = None,
        metric: str | None = None,
        batch_size: int | None = None,
        cv: Any = None,
        device: str = "cpu",
        cluster: Any = None,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: Any = None,
    ):
        super().__init__(
            hidden,
            model=model,
            space=space,
            cocktail=cocktail,
            n_settings=n_settings,
            n_seeds=n_seeds,
            epochs=epochs,
            n_confirm_seeds=n_confirm_seeds,
            n_ensemble=n_ensemble,
            metric=metric,
            batch_size=batch_size,
            cv=cv,
            device=device,
            cluster=cluster,
            random_state=random_state,
        )
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> "DampenClassifier":
        """Tune and train.

        Args:
            X: rows of numbers (NaN where one is missing), or a frame.
            y: a class for each.
            sample_weight: how much each counts; a row of weight 2 is the same as the row given twice.
            groups: for a `cv` that splits by them, such as `GroupKFold`.

        Raises:
            ValueError: fewer than two classes or rows, weights that are all 0, a class whose weight is not above 0, or
                what scikit-learn refuses.
        """
        X, y = self._read(X, y)
        check_classification_targets(y)
        folds = self._folds(X, y, sample_weight, groups)
        check_class_weight(self.class_weight)
        weights = weights_of(sample_weight, X)
        weights = weights * by_class(self.class_weight, y, weights)
        present = np.unique(y[weights > 0])
        if len(present) < 2:
            raise ValueError(
                f"DampenClassifier needs at least 2 classes, the rows have 1 class: {present.tolist()[0]!r}"
            )
        self.classes_ = present
        known = np.isin(y, present)
        codes = np.searchsorted(present, np.where(known, y, present[0]))
        rows = merged(X, codes.astype(np.int64), np.where(known, weights, 0.0))
        self._fit(rows, tuple(map(str, present)), folds)
        return self

    def predict_proba(self, X: Any) -> Float64[np.ndarray, "N C"]:
        """Return the mean over the networks of each class's probability."""
        outputs = self._outputs(X)
        outputs = np.exp(outputs - outputs.max(-1, keepdims=True))
        return (outputs / outputs.sum(-1, keepdims=True)).mean(0)

    def predict(self, X: Any) -> Shaped[np.ndarray, " N"]:
        """Return the most probable class of each row."""
        probabilities = self.predict_proba(X)  # first: it checks that there has been a fit
        return self.classes_[probabilities.argmax(1)]

    def predict_uncertainty(self, X: Any, samples: int | None = None, seed: int = 0) -> ClassUncertainty:
        """Return how sure each prediction is: `entropy`, `mutual_information` and more, arrays `[N]`.

        Its `probabilities` are those of `predict_proba`, its `classes` those of `predict`. The mutual information
        is what the networks disagree on, with `samples` also their dropout masks: large far from what was trained on.

        Args:
            X: rows.
            samples: dropout masks for each network; None for one pass.
            seed: of the masks.

        Raises:
            InputError: `samples` for networks that drop nothing.
        """
        prediction = cast(ClassPrediction, self._uncertain(X, samples, seed, task="classification"))
        return of_classes(prediction, self.classes_)


class DampenRegressor(RegressorMixin, Dampen):
    """A regressor whose network is regularised as much as the data needs.

    As `DampenClassifier`, which see for its arguments and attributes; the target is standardised inside, and `predict`
    gives the networks' mean in the target's own unit.

    Args:
        loss: `squared_error`, the default; `gaussian_nll` or `beta_nll` for networks that return a mean and a variance
            for each row, `pinball` for the median and two quantiles: for a target whose noise differs from row to row.
            `auto` takes `gaussian_nll` where validation rows are significantly more likely under it.

    Attributes:
        noise_: variance of the target around predictions beyond that over the networks: the mean squared error of
            ensembles like the one that predicts, on rows that none of their networks has seen, less the variance over
            those networks. With `n_ensemble=1` these are single networks; a selection of several settings has the noise
            of the recommended one's ensembles. None without tuning, and for losses whose networks return each row's own
            noise.

    Example:
        >>> from sklearn.datasets import load_diabetes
        >>> X, y = load_diabetes(return_X_y=True)
        >>> model = DampenRegressor((8,), n_settings=4, epochs=10, random_state=0).fit(X, y)
        >>> model.predict(X[:2]).shape
        (2,)
    """

    def __init__(
        self,
        hidden: Sequence[int] | None = None,
        *,
        model: Model | None = None,
        space: Mapping[str, Any] | None = None,
        cocktail: bool = False,
        n_settings: int | None = None,
        n_seeds: int | None = None,
        epochs: int | None = None,
        n_confirm_seeds: int = 5,
        n_ensemble: int | None = None,
        metric: str | None = None,
        batch_size: int | None = None,
        loss: str | None = None,
        cv: Any = None,
        device: str = "cpu",
        cluster: Any = None,
        random_state: Any = None,
    ):
        super().__init__(
            hidden,
            model=model,
            space=space,
            cocktail=cocktail,
            n_settings=n_settings,
            n_seeds=n_seeds,
            epochs=epochs,
            n_confirm_seeds=n_confirm_seeds,
            n_ensemble=n_ensemble,
            metric=metric,
            batch_size=batch_size,
            cv=cv,
            device=device,
            cluster=cluster,
            random_state=random_state,
        )
        self.loss = loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled; earlier versions kept the noise in the target's unit, and no rows to calibrate on."""
        super().__setstate__(state)
        if "networks_" in state and "_noise" not in state:
            variance = state.get("noise_")
            known = None if variance is None else variance / self._scale[1] ** 2
            self._noise = None if known is None else Noise(known, 1.0, torch.empty(0))

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> "DampenRegressor":
        """Tune and train.

        Args:
            X: rows of numbers (NaN where one is missing), or a frame.
            y: a number for each.
            sample_weight: how much each counts; a row of weight 2 is the same as the row given twice.
            groups: for a `cv` that splits by them, such as `GroupKFold`.

        Raises:
            ValueError: fewer than two rows, dates for targets, weights that are all 0, or what scikit-learn refuses.
        """
        X, y = self._read(X, y)
        if np.asarray(y).dtype.kind in "mM":
            raise InputError("y holds dates or durations: give numbers, such as the days since the first")
        folds = self._folds(X, y, sample_weight, groups)
        rows = merged(X, np.asarray(y, dtype=np.float64), weights_of(sample_weight, X))
        largest = float(np.abs(rows.targets).max())
        if largest and not _HELD[0] <= largest <= _HELD[1]:
            raise InputError(
                f"targets of up to {largest:.3g} are beyond {_HELD[0]:g} to {_HELD[1]:g}, where squares can be held: "
                "give them in another unit"
            )
        mean = float(np.average(rows.targets, weights=rows.weights))
        deviation = float(np.std(rows.targets - mean))
        # float32 then has every digit; the unit stays, for the verdict to speak in it, unless squares can't hold it
        unit = 1.0 if deviation == 0 or _UNITS[0] < deviation < _UNITS[1] else deviation
        self._fit(replace(rows, targets=(rows.targets - mean) / unit), None, folds)
        self._scale = mean + unit * self._scale[0], unit * self._scale[1]
        self._noise: Noise | None = None
        if self.tuned_:
            predictor = self.study_.results.predictor
            single = [((network,), part) for network, part in predictor.unseen]
            self._noise = noise(single if self.n_ensemble == 1 else predictor.ensembles, self._loss)
        variance = None if self._noise is None else self._noise.variance
        self.noise_ = None if variance is None else variance * self._scale[1] ** 2
        return self

    def predict(self, X: Any) -> Float64[np.ndarray, " N"]:
        """Return the networks' mean for each row."""
        outputs = self._outputs(X)[..., 0].mean(0)
        mean, deviation = self._scale
        return outputs * deviation + mean

    def predict_uncertainty(self, X: Any, samples: int | None = None, seed: int = 0) -> ValueUncertainty:
        """Return how sure each prediction is: `standard_deviation`, `interval(0.95)` and more, arrays `[N]`.

        Its `mean` is that of `predict`, in the target's own unit. Its variance is that over the networks (`epistemic`)
        and `noise_`, or each row's own noise that the networks return; without tuning `standard_deviation` of others is
        of the networks alone and `interval` refuses.

        Args:
            X: rows.
            samples: dropout masks for each network; None for one pass.
            seed: of the masks.

        Raises:
            InputError: `samples` for networks that drop nothing.
        """
        return of_values(self._with_noise(X, samples, seed))

    def predict_interval(
        self, X: Any, level: float = 0.95
    ) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
        """Return the ends of conformal prediction intervals: a share `level` of new rows lies in theirs.

        They are multiples of each row's `standard_deviation`, or its quantiles and the same distance beyond each of
        them (`loss="pinball"`: conformalised quantile regression); how much, rows show that the networks have not seen.

        Args:
            X: rows.
            level: of coverage, between 0 and 1.

        Raises:
            InputError: a level outside 0 to 1, or too few rows to tune on.
        """
        check_is_fitted(self, "networks_")
        if not is_number(level) or not 0 < level < 1:
            raise InputError(f"level must be between 0 and 1, got {level!r}")
        if self._noise is None:
            raise InputError(f"intervals take {LEAST_ROWS} different rows or more: there are no rows to calibrate on")
        if not len(self._noise.scores):
            raise InputError("this estimator was fitted by an earlier version, which kept no intervals: fit it again")
        prediction = self._with_noise(X, None, 0)
        noise = self._noise
        threshold = conformal(noise.scores, level, repeats=noise.repeats, weights=noise.weights)
        if math.isinf(threshold):
            n = round(len(noise.scores) / noise.repeats)
            warnings.warn(
                f"intervals of {level:g} coverage are infinite: {counted(n, 'row')} that the networks have not seen "
                f"allow a level of at most {most_coverage(n):g}",
                UserWarning,
                stacklevel=2,
            )
        unit = 1.0 if prediction.quantiles is None else self._scale[1]
        low, high = intervals(prediction, threshold * unit).unbind(1)
        return low.numpy(), high.numpy()

    def _with_noise(self, X: Any, samples: int | None, seed: int) -> ValuePrediction:
        prediction = self._uncertain(X, samples, seed, task="regression", loss=self._loss, scale=self._scale)
        prediction = cast(ValuePrediction, prediction)
        return prediction if self._noise is None else self._noise.of(prediction, self._scale[1])
