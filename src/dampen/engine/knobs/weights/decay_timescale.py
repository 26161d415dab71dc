"""Decay stated as a time scale: over how many epochs weights remember what was added to them.

Wang and Aitchison (2024), "How to set AdamW's weight decay as you scale model and dataset size":
under AdamW a weight is an exponential moving average of its updates, whose time scale in steps is
`1 / (lr * weight_decay)`. Divided by the steps of an epoch it keeps its meaning when the batch size or the learning
rate changes. Over the number of rows it does not carry over: Bergsma et al. (2025), "Power lines: scaling laws for
weight decay and batch size in LLM pre-training", arXiv 2505.13738, find that the best one, as a share of the training,
follows a power law in rows (there: tokens) per parameter.
"""

from collections.abc import Mapping
from typing import Any

from dampen.engine.knobs._base import Knob, number


def weight_decay(timescale: float, lr: float, steps: int, momentum: float = 0.0) -> float:
    """Return the decay that forgets over `timescale` epochs: `(1 - momentum) / (lr * timescale * steps)`.

    Args:
        timescale: in epochs.
        lr: peak learning rate.
        steps: of an epoch.
        momentum: of SGD, under which each gradient, decay included, acts `1 / (1 - momentum)` times.

    Example:
        >>> weight_decay(5.0, lr=1e-3, steps=200)
        1.0
    """
    return (1 - momentum) / (lr * timescale * steps)


def weight_decay_of(setting: Mapping[str, Any], lr: float, steps: int, momentum: float = 0.0) -> float:
    """Return the decay that a setting states, as a number or as a time scale.

    Args:
        setting: its `lr`, if it has one, goes before `lr`.
        lr: peak learning rate otherwise.
        steps: of an epoch.
        momentum: of SGD.
    """
    if KNOB.name in setting:
        return weight_decay(setting[KNOB.name], setting.get("lr", lr), steps, momentum)
    return setting.get("weight_decay", 0.0)


KNOB = Knob(
    "decay_timescale",
    "parameter",
    number("decay_timescale", above=True),
    "States `weight_decay` as the epochs over which weights forget: `1 / (lr * decay_timescale * steps per epoch)`, "
    "with the peak learning rate; under AdamW and SGD, with momentum m times `1 - m`.",
    "above 0, in epochs",
    "Wang and Aitchison 2024, the EMA time scale in epochs",
    excludes=("weight_decay",),
    log=True,
)
