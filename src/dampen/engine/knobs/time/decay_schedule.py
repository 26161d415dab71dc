"""A schedule of the decay: every kind of L2 decay that a setting turns, times a share that falls over the training.

Loshchilov and Hutter (2019), "Decoupled weight decay regularization", algorithm 2, line 12: there one multiplier moves
learning rate and decay together; here the decay's own is free.
"""

import math

from dampen.engine.knobs._base import Knob, Scales, one_of

DECAYS = ("weight_decay", "decoupled_decay", "l2", "cautious_decay", "independent_decay", "corrected_decay")
KINDS = ("constant", "linear", "cosine")


def share(kind: str, step: int, steps: int) -> float:
    """Return the share of the decay at `step`, from 0, of `steps`.

    Args:
        kind: `constant`; `linear` from 1 to 0; `cosine` from 1 to 0 along half a cosine.
        step: number of the step.
        steps: of the whole training.

    Example:
        >>> [round(share("linear", step, 4), 2) for step in range(4)]
        [1.0, 0.75, 0.5, 0.25]
    """
    if kind == "cosine":
        return (1 + math.cos(math.pi * step / steps)) / 2
    return 1 - step / steps if kind == "linear" else 1.0


KNOB = Knob(
    "decay_schedule",
    "time",
    one_of("decay_schedule", KINDS),
    "Moves `weight_decay`, `decay_timescale`, `l2` and the other decays over the training: all of it at first, none "
    "at the end. The learning rate's own schedule multiplies decoupled decay besides.",
    "constant, linear or cosine",
    "Loshchilov and Hutter 2019, alg. 2",
    neutral="constant",
    acts=Scales(DECAYS, share),
)
