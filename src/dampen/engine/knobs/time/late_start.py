"""A late start of decay and of L1: off in the first part of the training, then at full strength.

Golatkar, Achille and Soatto (2019), "Time matters in regularizing deep networks", vary when weight decay begins and
ends; Zhu and Gupta (2018), "To prune, or not to prune": sparsity begins when the network has learnt something.
"""

from dampen.engine.knobs._base import Knob, Scales, number
from dampen.engine.knobs.time.decay_schedule import DECAYS


def factor(start: float, step: int, steps: int) -> float:
    """Return 0 before a share of the training, 1 from there on.

    Args:
        start: the share.
        step: number of the step, from 0.
        steps: of the whole training.

    Example:
        >>> [factor(0.5, step, 4) for step in range(4)]
        [0.0, 0.0, 1.0, 1.0]
    """
    return float(step >= start * steps)


KNOB = Knob(
    "decay_start",
    "time",
    number("decay_start", high=1.0, below=True),
    "Leaves every decay (`weight_decay`, `decay_timescale`, `l2` and the others) off in this first share of the "
    "training.",
    "a share from 0 to below 1",
    "Golatkar, Achille and Soatto 2019",
    neutral=0.0,
    acts=Scales(DECAYS, factor),
)

L1 = Knob(
    "l1_start",
    "time",
    number("l1_start", high=1.0, below=True),
    "Leaves `l1`, `group_lasso` and `frobenius` off in this first share of the training.",
    "a share from 0 to below 1",
    "as Zhu and Gupta 2018",
    neutral=0.0,
    acts=Scales(("l1", "group_lasso", "frobenius"), factor),
)
