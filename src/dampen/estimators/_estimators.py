"""`DampenClassifier` and `DampenRegressor`."""

import numbers
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import check_cv
from sklearn.utils import Tags, assert_all_finite, check_consistent_length, check_random_state, compute_sample_weight
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn

from dampen._checks import is_number
from dampen._tensors import as_native
from dampen.data import Data, Preprocessing, all_typed, spelt_alike, with_unit_targets
from dampen.engine import Model, Population, TrainConfig, copied, with_heads
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.estimators._defaults import usual as defaults
from dampen.estimators._noise import Noise, noise
from dampen.estimators._rows import (
    Folds,
    Merged,
    as_data,
    columns_of,
    encoded_new,
    merged,
    repeating_notes,
    with_folds,
)
from dampen.estimators._uncertainty import ClassUncertainty, ValueUncertainty, of_classes, of_values
from dampen.study import AUTO, check_network, tune, usual_schedule
from dampen.uncertainty import ClassPrediction, Prediction, ValuePrediction, conformal, intervals, predict

LEAST_ROWS = 50  # below which ten rows would have to rank settings: noise
DEFAULT = Setting(weight_decay=0.02, dropout=0.15, lr=3e-3)  # Holzmüller, Grinsztajn and Steinwart (2024), table A.1
_OPTIONAL = ("n_settings", "n_seeds", "epochs", "batch_size", "n_ensemble")
_COUNTS = (*_OPTIONAL, "n_confirm_seeds")
_ROWS_AT_ONCE = 1 << 16
LOSSES = ("squared_error", "gaussian_nll", "beta_nll", "pinball", AUTO)  # of `DampenRegressor`
_UNITS = 1e-6, 1e12  # deviations of a target between which its squares are float32 numbers


class _Dampen(BaseEstimator):
    """What both estimators share."""

    __metadata_request__fit: ClassVar[dict[str, str]] = {
        "groups": UNUSED
    }  # the splitter's, as for scikit-learn's own estimators

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
        random_state: Any = None,
    ):
        self.hidden = hidden
        self.model = model
        self.space = space
        self.cocktail = cocktail
        self.n_settings = n_settings
        self.n_seeds = n_seeds
        self.epochs = epochs
        self.n_confirm_seeds = n_confirm_seeds
        self.n_ensemble = n_ensemble
        self.metric = metric
        self.batch_size = batch_size
        self.cv = cv
        self.device = device
        self.cluster = cluster
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True  # a missing number becomes the median and a flag
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: everything but `study_`, whose recorded programs can't be."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return {name: value for name, value in state.items() if name != "study_"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what was pickled; what an earlier version did not have yet has its default."""
        parameters = signature(type(self)).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        super().__setstate__({**defaults, "_loss": None, **state})  # type: ignore[misc]

    def _read(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Check rows as scikit-learn does: numbers in any form; a frame with other columns stays one."""
        if _is_mixed(X):
            self._mixed = True
            y = validate_data(self, X, _unmasked(y), skip_check_array=True)[1]
            X, y = _pandas(X), column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            if y.dtype.kind == "f":
                assert_all_finite(y, input_name="y")
            if len(X) < 2:
                raise ValueError(f"Found a frame with {len(X)} sample(s) while a minimum of 2 is required.")
            return X, y
        self._mixed = False
        X, y = validate_data(
            self,
            _unmasked(X),
            _unmasked(y),
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2,
        )
        return X, y

    def get_metadata_routing(self) -> MetadataRouter:
        """Return how scikit-learn routes what `fit` is given beside rows: `groups` to the splitter `cv`."""
        to_split = MethodMapping().add(caller="fit", callee="split")
        return MetadataRouter(owner=self).add_self_request(self).add(splitter=self.cv, method_mapping=to_split)

    def _folds(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> Folds | None:
        """Return the folds of `cv`, pairs of row numbers; None where the study draws its own."""
        if self.cv is None:
            if groups is not None:
                raise InputError("groups are for a cv that splits by them, such as GroupKFold(5): give one")
            return None
        if get_config()["enable_metadata_routing"]:
            routed = process_routing(self, "fit", sample_weight=sample_weight, groups=groups).splitter.split
        else:
            routed = {} if groups is None else {"groups": groups}
        splitter: Any = check_cv(self.cv, y, classifier=isinstance(self, DampenClassifier))
        return [
            (_row_numbers(rest, len(y)), _row_numbers(held, len(y))) for rest, held in splitter.split(X, y, **routed)
        ]

    def _fit(self, rows: Merged, given: Any, classes: tuple[str, ...] | None, folds: Folds | None) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        counts = {name: _whole(name, getattr(self, name)) for name in _COUNTS}
        widths = None if self.hidden is None else _widths(self.hidden)
        if widths is not None and self.model is not None:
            raise InputError("hidden shapes dampen's own network, model is yours: give one of them")
        self._names = None if self._mixed else getattr(self, "feature_names_in_", None)
        self._columns = columns_of(rows.table, self._names, given)
        notes = repeating_notes(rows, classes, self._names)
        alike = spelt_alike(classes or ())
        for note in [*notes, *([f"classes {alike}"] if alike else [])]:
            warnings.warn(note, UserWarning, stacklevel=_outside())
        data = as_data(rows, self._columns, classes, self._names)
        data = data if folds is None else with_folds(data, rows, folds)
        n = len(data.train_rows)
        loss = getattr(self, "loss", None)
        if loss not in (None, *LOSSES):
            raise InputError(f"loss must be one of {', '.join(LOSSES)}, or None, got {loss!r}")
        if not isinstance(self.cocktail, bool | np.bool_):
            raise InputError(f"cocktail must be True or False, got {self.cocktail!r}")
        usual = defaults(data, widths, self.model, counts["batch_size"], bool(self.cocktail))
        network, batch_size = with_heads(usual.network, None if loss == AUTO else loss), usual.batch_size
        epochs = counts["epochs"] or usual.epochs
        if n < LEAST_ROWS:
            self._untuned(network, data, epochs, batch_size, seed)
            return
        study = tune(
            network,
            data,
            usual.space if self.space is None else self.space,
            n_settings=counts["n_settings"] or (None if self.cocktail else usual.n_settings),
            n_seeds=counts["n_seeds"] or (None if self.cocktail else usual.n_seeds),
            cocktail=bool(self.cocktail),
            epochs=epochs,
            n_confirm_seeds=max(counts["n_confirm_seeds"] or 0, len(folds or ())),
            metric=self.metric or usual.metric,
            batch_size=batch_size,
            loss=loss,
            device=self.device,
            cluster=self.cluster,
            seed=seed,
            callback=lambda at: None,  # estimators are silent, in a notebook too
        )
        self.study_, self.tuned_, self._loss = study, True, study.loss
        self.setting_ = dict(study.verdict.recommended)
        self.verdict_ = study.verdict.sentences()
        self.networks_ = study.ensemble(counts["n_ensemble"])
        self.preprocessing_ = cast(Preprocessing, study.preprocessing)
        self._scale = study.target_scale

    def _untuned(self, network: Model, data: Data, epochs: int, batch_size: int, seed: int) -> None:
        """Train with the published default."""
        check_network(network, data)
        loss = getattr(self, "loss", None)
        self._loss = None if loss == AUTO else loss
        seeds = range(seed, seed + int(self.n_ensemble or self.n_confirm_seeds))
        default = DEFAULT
        # a trial run costs time, and dampen's own network needs none
        if self.model is not None and not Population(network, [Setting()], [0]).explain(data, self._config()).dropping:
            default = Setting(weight_decay=DEFAULT["weight_decay"], lr=DEFAULT["lr"])
        data, *scale = with_unit_targets(data)
        population = Population(network, [default], seeds)
        population.fit(
            data,
            epochs=epochs,
            batch_size=batch_size,
            loss=self._loss,
            schedule=usual_schedule(),
            device=self.device,
            evaluate_every=None,
        )
        self.tuned_, self.setting_ = False, dict(default)
        self.verdict_ = [
            f"{len(data.train_rows)} different rows are too few to compare settings (at least {LEAST_ROWS}): "
            "the published default for tables is used (Holzmüller, Grinsztajn and Steinwart 2024)."
        ]
        self.networks_ = [population.member(default, member_seed) for member_seed in seeds]
        self.preprocessing_ = cast(Preprocessing, Preprocessing.of(data))
        self._scale = scale[0], scale[1]

    def _config(self) -> TrainConfig:
        return TrainConfig(epochs=1, loss=self._loss)

    def _networks_and_inputs(self, X: Any) -> tuple[list[nn.Module], Float64[Tensor, "N D"]]:
        """Return the networks and the inputs of rows, in float64, so that rows do not depend on each other."""
        check_is_fitted(self, "networks_")
        if self._mixed:
            validate_data(self, X, reset=False, skip_check_array=True)
            X = _pandas(X)
        else:
            X = validate_data(
                self, _unmasked(X), reset=False, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan"
            )
        raw, notes = encoded_new(self._columns, X, self._names)
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=_outside())
        inputs = self.preprocessing_.vectoriser.apply(raw).double()
        return [copied(network).double() for network in self.networks_], inputs

    def _outputs(self, X: Any) -> Float64[np.ndarray, "networks N outputs"]:
        """Return each network's outputs for rows."""
        networks, inputs = self._networks_and_inputs(X)
        with torch.no_grad():
            parts = [torch.stack([network(part) for network in networks]) for part in inputs.split(_ROWS_AT_ONCE)]
        return torch.cat(parts, 1).numpy()

    def _uncertain(self, X: Any, samples: int | None, seed: int, **how: Any) -> Prediction:
        networks, inputs = self._networks_and_inputs(X)
        one_setting = self.n_ensemble is None or not self.tuned_  # networks of several have each their own rates
        rates = self.setting_.get("dropout") if samples and one_setting else None
        return predict(networks, inputs, samples, seed, dropout=rates, **how)


class DampenClassifier(ClassifierMixin, _Dampen):
    """A classifier whose network is regularised as much as the data needs.

    `fit` searches weight decay, dropout and learning rate for all settings at once (`dampen.tune`), and trains the
    winner on all rows with several seeds, whose probabilities `predict_proba` averages. Numbers are scaled by their
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
            10), below that 600 steps, at least 10 and at most 200 epochs. With a `model` of your own or a cocktail:
            1000 steps from 1000 rows on.
        n_confirm_seeds: of each setting in the verdict, and of the networks that predict.
        n_ensemble: how many networks predict, each a pass over the rows: 1 for a single one, more for a greedy
            selection among the confirmed settings (Caruana et al. 2004; see `Study.ensemble`); by default the
            recommended setting's, one for each of `n_confirm_seeds`.
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
        _check_class_weight(self.class_weight)
        weights = _weights(sample_weight, X) * compute_sample_weight(self.class_weight, y)
        present = np.unique(y[weights > 0])
        if len(present) < 2:
            raise ValueError(
                f"DampenClassifier needs at least 2 classes, the rows have 1 class: {present.tolist()[0]!r}"
            )
        self.classes_ = present
        known = np.isin(y, present)
        codes = np.searchsorted(present, np.where(known, y, present[0]))
        rows = merged(X, codes.astype(np.int64), np.where(known, weights, 0.0))
        self._fit(rows, X, tuple(map(str, present)), folds)
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


class DampenRegressor(RegressorMixin, _Dampen):
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
            ValueError: fewer than two rows, weights that are all 0, or what scikit-learn refuses.
        """
        X, y = self._read(X, y)
        folds = self._folds(X, y, sample_weight, groups)
        rows = merged(X, np.asarray(y, dtype=np.float64), _weights(sample_weight, X))
        mean = float(np.average(rows.targets, weights=rows.weights))
        deviation = float(np.std(rows.targets - mean))
        # float32 then has every digit; the unit stays, for the verdict to speak in it, unless squares can't hold it
        unit = 1.0 if deviation == 0 or _UNITS[0] < deviation < _UNITS[1] else deviation
        self._fit(replace(rows, targets=(rows.targets - mean) / unit), X, None, folds)
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
        threshold = conformal(self._noise.scores, level)
        unit = 1.0 if prediction.quantiles is None else self._scale[1]
        low, high = intervals(prediction, threshold * unit).unbind(1)
        return low.numpy(), high.numpy()

    def _with_noise(self, X: Any, samples: int | None, seed: int) -> ValuePrediction:
        prediction = self._uncertain(X, samples, seed, task="regression", loss=self._loss, scale=self._scale)
        prediction = cast(ValuePrediction, prediction)
        return prediction if self._noise is None else self._noise.of(prediction, self._scale[1])


def _outside() -> int:
    """Return the `stacklevel` of the caller of the method that someone outside of this file has called."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame, level = frame.f_back, level + 1
    return level


def _whole(name: str, value: Any) -> int | None:
    """Return a parameter that counts; None where it may be left to the data, and is.

    Raises:
        InputError: it is no whole number, or below 1.
    """
    if value is None and name in _OPTIONAL:
        return None
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
        choice = ", or None for a default that depends on the rows" if name in _OPTIONAL else ""
        raise InputError(f"{name} must be a whole number, 1 or larger{choice}, got {value!r}")
    return int(value)


def _row_numbers(given: Any, n: int) -> Int64[np.ndarray, " k"]:
    """Return the rows of a side of a fold, of which scikit-learn's estimators take numbers or a mask.

    Raises:
        InputError: they are neither, or not among the rows.
    """
    numbers = np.asarray(given)
    if numbers.dtype == bool and numbers.shape == (n,):
        return np.flatnonzero(numbers)
    if numbers.ndim != 1 or (len(numbers) and numbers.dtype.kind not in "iu"):
        raise InputError(f"cv must give lists of row numbers (train, test), got {numbers.dtype} {list(numbers.shape)}")
    numbers = numbers.astype(np.int64)
    if len(numbers) and (numbers.min() < -n or numbers.max() >= n):
        raise InputError(f"cv must give row numbers below {n}, got {numbers.min()} to {numbers.max()}")
    return numbers


def _widths(hidden: Any) -> tuple[int, ...]:
    message = f"hidden must be widths of layers, whole numbers such as (64, 32), got {hidden!r}"
    try:
        widths = [] if isinstance(hidden, str) else list(hidden)
    except TypeError:
        raise InputError(message) from None
    whole = all(isinstance(w, numbers.Integral) and not isinstance(w, bool) and int(w) >= 1 for w in widths)
    if not whole or isinstance(hidden, str):
        raise InputError(message)
    return tuple(map(int, widths))


def _check_class_weight(given: Any) -> None:
    """Refuse the weight of a class that would leave the class out, or is none.

    Raises:
        InputError: it is not a finite number above 0.
    """
    for name, weight in given.items() if isinstance(given, Mapping) else ():
        if isinstance(weight, bool) or not isinstance(weight, numbers.Real) or not 0 < float(weight) < float("inf"):
            raise InputError(
                f"class_weight: the weight of class {name!r} must be a finite number above 0, got {weight!r}; to leave "
                "a class out, leave its rows out"
            )


def _weights(sample_weight: Any, X: Any) -> Float64[np.ndarray, " N"]:
    weights = _check_sample_weight(_unmasked(sample_weight), X, dtype=np.float64, ensure_non_negative=True)
    assert_all_finite(weights, input_name="sample_weight")  # which a single number for all rows need not be
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def _is_mixed(X: Any) -> bool:
    """Return whether rows are a frame with columns that are no numbers, or truth values."""
    import pandas as pd

    if not (hasattr(X, "iloc") or hasattr(X, "to_pandas")) or getattr(X, "ndim", 2) != 2:
        return False
    kinds = pd.api.types
    dtypes = (X.to_pandas() if hasattr(X, "to_pandas") else X).dtypes
    return not all(kinds.is_numeric_dtype(dtype) and not kinds.is_bool_dtype(dtype) for dtype in dtypes)


def _unmasked(values: Any) -> Any:
    """Return a masked array with its masked values as missing, which scikit-learn would read as if they were there."""
    return as_native(values) if isinstance(values, np.ma.MaskedArray) else values


def _pandas(X: Any) -> Any:
    if hasattr(X, "to_pandas"):
        return all_typed(X.to_pandas())
    if not hasattr(X, "iloc"):
        kind = type(X).__name__
        raise ValueError(f"the estimator was fitted on a frame with columns that are no numbers: give one, not {kind}")
    return all_typed(X.set_axis([str(name) for name in X.columns], axis=1))
