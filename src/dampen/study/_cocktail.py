"""Cocktails: every regulariser that applies to a network and its data, each on or off, searched together.

Kadra et al. (2021), "Well-tuned simple nets excel on tabular datasets": 13 regularisers, each with a decision whether
it is on and with ranges of its own that count only then.
"""

from dataclasses import replace
from typing import Any

from dampen.data import Data
from dampen.engine import CHANGES_INPUTS, Model, Population, TrainConfig
from dampen.engine.knobs import Setting
from dampen.errors import InputError
from dampen.search import Choice, LogUniform, Uniform
from dampen.study._defaults import is_table, usual_space
from dampen.study._embedded import embedding_of_codes

N_SETTINGS, N_SEEDS = 512, 1  # of the search: many settings rather than many seeds, as most dimensions are off or on
# That a budget leaves of them at least: regularisers pay in long trainings, which more settings would shorten.
LEAST_SETTINGS = 32
ROUNDS, MOST_AROUND = 4, 16  # of looking around the best, and settings of each: every one changes a knob of a dozen
WANTED: dict[str, Any] = {"least": LEAST_SETTINGS, "tried_seeds": (N_SEEDS,), "doublings": 4}
MOST_RATES = 32  # settings that references count as if the search had: they have one dimension, this one a dozen
_LEAST_DECAY = 1e-2  # times a learning rate of 0.001 and ten thousand steps, weights lose a tenth
_OFF = 0.75  # so that most settings have two to four on: with half of a dozen on together a small network underfits


def cocktail_space(model: Model, data: Data, training: TrainConfig, dropping: int) -> dict[str, Any]:
    """Return the dimensions of all regularisers that can act on this network, its data and its loss.

    Args:
        model: as for `Population`.
        data: what it trains on.
        training: how; one that has a length.
        dropping: in how many places the network drops units.
    """
    usual = usual_space(data, dropping)
    decay, table = usual["weight_decay"], is_table(data)
    space: dict[str, Any] = {"weight_decay": replace(decay, low=_LEAST_DECAY, zero=_OFF), "lr": usual["lr"]}
    if dropping:
        space["dropout"] = Uniform(0.05, 0.7, _OFF)
    space |= {
        "decay_start": Choice([0.0, 0.25, 0.5]),
        "l1": LogUniform(1e-5, 1e-1, _OFF),
        "ema": Choice([*[0.0] * 6, 0.98, 0.99]),
        "dropconnect": Uniform(0.05, 0.5, _OFF),
        "drop_path": Uniform(0.05, 0.5, _OFF),
        "mixup": Uniform(0.1, 1.0, _OFF),
        "label_smoothing": Uniform(0.02, 0.2, _OFF),
        "input_noise": LogUniform(0.01, 0.5, _OFF),
        "input_dropout": Uniform(0.02, 0.3, _OFF),
    }
    if not table:
        space |= {
            "cutmix": Uniform(0.1, 1.0, _OFF),
            "random_shift": Choice([*[0] * 6, 1, 2]),
            "horizontal_flip": Choice([0.0, 0.0, 0.0, 0.5]),
        }
    if data.codes or embedding_of_codes(model, data) is not None:
        space = {name: dimension for name, dimension in space.items() if name not in CHANGES_INPUTS}
    return {name: d for name, d in space.items() if name in usual or _applies(name, d, model, data, training)}


def _applies(name: str, dimension: Any, model: Model, data: Data, training: TrainConfig) -> bool:
    """Return whether a knob finds something to act on."""
    turned = {name: dimension.at(1.0)}
    if name == "decay_start":
        turned["weight_decay"] = 0.1
    try:
        Population(model, [Setting(**turned)], [0]).explain(replace(data, test_rows=data.test_rows[:0]), training)
    except InputError:
        return False
    return True
