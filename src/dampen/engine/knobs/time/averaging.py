"""Averages of the weights over the training: exponential (EMA), and of the last epochs with equal weights (SWA).

Polyak and Juditsky (1992), "Acceleration of stochastic approximation by averaging"; Izmailov et al. (2018),
"Averaging weights leads to wider optima and better generalization", algorithm 1, whose running statistics of
normalisation layers are found anew for the averaged weights. Both are torch's: `torch.optim.swa_utils.AveragedModel`,
with `get_ema_multi_avg_fn`, `get_swa_multi_avg_fn` and `update_bn`, are what to use in a loop of your own.
"""

import math

from dampen.engine.knobs._base import Averages, Knob, number


def ema_share(decay: float, step: int) -> float:
    """Return the present weights' share in the average after `step` steps, from 1: all of it first, then `1 - decay`.

    Example:
        >>> ema_share(0.75, 1), ema_share(0.75, 2)
        (1.0, 0.25)
    """
    return 1.0 if step == 1 else 1 - decay


def swa_share(start: float, epoch: int, epochs: int) -> float:
    """Return the present weights' share in the average after `epoch`, from 1, of `epochs`.

    Args:
        start: share of the epochs that count for nothing.
        epoch: its number.
        epochs: of the whole training.

    Example:
        >>> [round(swa_share(0.5, epoch, 6), 2) for epoch in range(1, 7)]
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.33]
    """
    return 1 / max(1, epoch - math.floor(start * epochs))


KNOB = Knob(
    "ema",
    "time",
    number("ema", high=1.0, below=True),
    "Evaluates and returns an exponential moving average of the weights, and of running statistics: each step keeps "
    "this share of it. Steps further back than some `1 / (1 - ema)` are forgotten.",
    "0 to below 1",
    "Polyak and Juditsky 1992; as torch's AveragedModel",
    neutral=0.0,
    acts=Averages("step", lambda value, done, of: ema_share(value, done)),
    excludes=("swa",),
)

SWA = Knob(
    "swa",
    "time",
    number("swa", high=1.0),
    "Evaluates and returns the mean of the weights after each epoch past this share of all epochs, with running "
    "statistics found anew on the training rows.",
    "0 to 1; 1 averages nothing",
    "Izmailov et al. 2018, alg. 1",
    neutral=1.0,
    acts=Averages("epoch", swa_share, recompute=True),
    excludes=("ema",),
)
