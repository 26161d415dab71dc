"""What the recommended training has to beat, and what is taken from it to see where its gain comes from."""

from collections.abc import Iterable, Mapping, Sequence

from dampen.data import Data
from dampen.engine.knobs import KNOBS, Scales, Setting
from dampen.search import Space
from dampen.study._defaults import is_table

NONE, DEFAULT, TABULAR = "none", "default", "tabular-default"
STOPPED = "none_stopped_early"
LOSSES = ("nll", "mse", "rmse")  # metrics that are least where the loss is, by which trainings are stopped early
UNREGULARISED = (NONE, STOPPED)
_NO_REGULARISERS = ("lr", "patience", "dropblock_size")
_LEAST_RATES = 3  # learning rates that a reference tries at least, where the learning rate is searched


def families(
    space: Space, dropping: bool, data: Data, lr: float, settings: int, decoupled: bool = True
) -> dict[str, tuple[Setting, ...]]:
    """Return the settings that each reference tries: a reference gets a learning rate of its own.

    `none` has no regularisation. `default` is AdamW as torch gives it: decay 0.01, no dropout; other optimizers have no
    decay by default, and none of these references but `none`. Tables have
    `tabular-default`, too: decay 0.02 and dropout 0.15, of Holzmüller, Grinsztajn and Steinwart (2024), "Better by
    default", table A.1.

    Learning rates are spread evenly over the range that is searched: a quarter as many for `none` as there are settings
    (in one dimension that is denser than the search, which has two or three), an eighth for the others.

    Args:
        space: of the search.
        dropping: whether the network drops units.
        data: what it is for.
        lr: where the space has no learning rate.
        settings: of the search.
        decoupled: whether the optimizer is AdamW.
    """
    dropout = {"dropout": 0.0} if dropping else {}

    def of(share: int, **knobs: float) -> tuple[Setting, ...]:
        rates = _rates(space, lr, max(_LEAST_RATES, settings // share))
        return tuple(dict.fromkeys(Setting(lr=rate, **knobs) for rate in rates))

    settings_of = {NONE: of(4, weight_decay=0.0, **dropout)}
    if not decoupled:
        return settings_of
    settings_of[DEFAULT] = of(8, weight_decay=0.01, **dropout)
    if dropping and is_table(data):
        settings_of[TABULAR] = of(8, weight_decay=0.02, dropout=0.15)
    return settings_of


def _rates(space: Space, lr: float, n: int) -> Sequence[float]:
    dimension = space.dimensions.get("lr")
    return [lr] if dimension is None else dimension.grid(n)  # type: ignore[union-attr]


def regularisers(setting: Setting, own_dropout: bool = False) -> tuple[str, ...]:
    """Return the regularisers that a setting turns: not the learning rate, and no schedule of another knob.

    Args:
        setting: the setting.
        own_dropout: whether the network drops units at rates of its own where a setting has none.
    """
    own = ("dropout",) if own_dropout and "dropout" not in setting else ()
    return own + tuple(name for name in searched(setting) if _on(name, setting))


def searched(names: Iterable[str]) -> list[str]:
    """Return the knobs that are regularisers, of those of a search."""
    return [name for name in names if name not in _NO_REGULARISERS and not isinstance(KNOBS[name].acts, Scales)]


def _on(name: str, setting: Setting) -> bool:
    value = setting[name]
    if name in ("weight_decay", "dropout"):
        rates = [r[1] if isinstance(r, tuple) else r for r in value] if isinstance(value, tuple) else [value]
        return any(rates)
    return name == "decay_timescale" or KNOBS[name].on(setting)


def without(setting: Setting, knobs: Sequence[str], dropping: bool) -> Setting:
    """Return a setting with some of its regularisers off; the learning rate stays.

    Args:
        setting: the setting.
        knobs: which.
        dropping: whether the network drops units: it has rates of its own where a setting has none.
    """
    left = {name: value for name, value in setting.items() if name not in knobs}
    left = {name: value for name, value in left.items() if not _idle(name, left)}
    if "weight_decay" in knobs or "decay_timescale" in knobs:
        left["weight_decay"] = 0.0
    if "dropout" in knobs and dropping:
        left["dropout"] = 0.0
    return Setting(**left)


def _idle(name: str, setting: Mapping[str, object]) -> bool:
    """Return whether a knob scales others, none of which the setting has."""
    acts = KNOBS[name].acts
    turned = {*setting, *(("weight_decay",) if "decay_timescale" in setting else ())}
    return isinstance(acts, Scales) and not turned.intersection(acts.of)
