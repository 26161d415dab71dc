"""What `DampenClassifier` and `DampenRegressor` share."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float64
from sklearn import get_config
from sklearn.base import BaseEstimator, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import Tags, assert_all_finite, check_consistent_length, check_random_state
from sklearn.utils.metadata_routing import UNUSED, MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor, nn

from dampen.data import Data, Preprocessing, spelt_alike, with_unit_targets
from dampen.engine import Model, Population, TrainConfig, copied, with_heads
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.estimators._arguments import (
    COUNTS,
    as_pandas,
    check_known,
    is_mixed,
    row_numbers,
    unmasked,
    whole,
    widths_of,
)
from dampen.estimators._defaults import LEAST_ROWS, longer
from dampen.estimators._defaults import usual as defaults
from dampen.estimators._rows import (
    Folds,
    Merged,
    as_data,
    columns_of,
    encoded_new,
    repeating_notes,
    with_folds,
)
from dampen.metrics import find
from dampen.study import AUTO, FreshResults, check_network, tune, usual_schedule
from dampen.uncertainty import Prediction, predict

LOSSES = ("squared_error", "gaussian_nll", "beta_nll", "pinball", AUTO)  # of `DampenRegressor`
_DEFAULT = Setting(weight_decay=0.02, dropout=0.15, lr=3e-3)  # Holzmüller, Grinsztajn and Steinwart (2024), table A.1
_ROWS_AT_ONCE = 1 << 16


class Dampen(BaseEstimator):
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
        several = bool(state.get("tuned_")) and state.get("n_ensemble") is not None
        super().__setstate__({**defaults, "_loss": None, "_several": several, **state})  # type: ignore[misc]

    def _read(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Check rows as scikit-learn does: numbers in any form; a frame with other columns stays one."""
        if is_mixed(X):
            self._mixed = True
            y = validate_data(self, X, unmasked(y), skip_check_array=True)[1]
            X, y = as_pandas(X), column_or_1d(y, warn=True)
            check_consistent_length(X, y)
            if y.dtype.kind == "f":
                assert_all_finite(y, input_name="y")
            check_known(y)
            if len(X) < 2:
                raise ValueError(f"Found a frame with {len(X)} sample(s) while a minimum of 2 is required.")
            return X, y
        self._mixed = False
        X, y = validate_data(
            self,
            unmasked(X),
            unmasked(y),
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            ensure_min_samples=2,
        )
        check_known(y)
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
            metadata = {"sample_weight": sample_weight, "groups": groups}
            given = {name: value for name, value in metadata.items() if value is not None}
            routed = process_routing(self, "fit", **given).splitter.split
        else:
            routed = {} if groups is None else {"groups": groups}
        splitter: Any = check_cv(self.cv, y, classifier=is_classifier(self))
        return [(row_numbers(rest, len(y)), row_numbers(held, len(y))) for rest, held in splitter.split(X, y, **routed)]

    def _fit(self, rows: Merged, classes: tuple[str, ...] | None, folds: Folds | None) -> None:
        vars(self).pop("study_", None)  # of other rows, which no fit without tuning replaces
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        counts = {name: whole(name, getattr(self, name)) for name in COUNTS}
        widths = None if self.hidden is None else widths_of(self.hidden)
        if widths is not None and self.model is not None:
            raise InputError("hidden shapes dampen's own network, model is yours: give one of them")
        self._names = None if self._mixed else getattr(self, "feature_names_in_", None)
        self._columns = columns_of(rows.table, self._names)
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
        epochs = counts["epochs"] or (usual.epochs if n >= LEAST_ROWS else longer(usual.epochs, rows.weights))
        find(self.metric, data.task)  # refused on few rows, too, which compare nothing
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
        n_networks = counts["n_ensemble"]
        if n_networks is None and usual.n_ensemble is not None:
            n_networks = min(usual.n_ensemble, cast(FreshResults, study.results).most_networks)
        self.networks_, self._several = study.ensemble(n_networks), n_networks is not None
        self.preprocessing_ = cast(Preprocessing, study.preprocessing)
        self._scale = study.target_scale

    def _untuned(self, network: Model, data: Data, epochs: int, batch_size: int, seed: int) -> None:
        """Train with the published default."""
        check_network(network, data)
        loss = getattr(self, "loss", None)
        self._loss = None if loss == AUTO else loss
        seeds = range(seed, seed + int(self.n_ensemble or self.n_confirm_seeds))
        default = _DEFAULT
        # a trial run costs time, and dampen's own network needs none
        if self.model is not None and not Population(network, [Setting()], [0]).explain(data, self._config()).dropping:
            default = Setting(weight_decay=_DEFAULT["weight_decay"], lr=_DEFAULT["lr"])
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
        self.tuned_, self._several, self.setting_ = False, False, dict(default)
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
            X = as_pandas(X)
        else:
            X = validate_data(
                self, unmasked(X), reset=False, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan"
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
        rates = self.setting_.get("dropout") if samples and not self._several else None  # several have each their own
        return predict(networks, inputs, samples, seed, dropout=rates, **how)


def _outside() -> int:
    """Return the `stacklevel` of the caller of the method that someone outside of this folder has called."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(f"{__package__}."):
        frame, level = frame.f_back, level + 1
    return level
