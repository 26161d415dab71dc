"""Group lasso: all incoming weights of a unit go to zero together; and the same with a whole matrix as one group.

Yuan and Lin (2006), "Model selection and estimation in regression with grouped variables", equation 2.1: the penalty is
`strength * sum_g sqrt(size of g) * ||w_g||_2`. Scardapane et al. (2017), "Group sparse regularization for deep neural
networks", section 3, for networks' units. The proximal step is block soft thresholding: Parikh and Boyd (2014),
"Proximal algorithms", section 6.5.4.
"""

import math

import torch
from torch import Tensor

from dampen.engine.knobs._base import Knob, OnWeights, number


def shrink_groups(w: Tensor, threshold: float | Tensor, lead: int = 1) -> Tensor:
    """Shorten each group by `threshold * sqrt(its size)` in L2 norm, and set those that are shorter to exactly 0.

    Args:
        w: weights; the first `lead` axes count groups: 1 makes a group of each unit's incoming weights, 0 one of all.
        threshold: what broadcasts against `w`.
        lead: how many axes count groups.

    Example:
        >>> shrink_groups(torch.tensor([[3.0, 4.0], [0.1, 0.1]]), 1 / 2**0.5)
        tensor([[2.4000, 3.2000],
                [0.0000, 0.0000]])
    """
    axes = tuple(range(lead, w.ndim))
    norms = torch.linalg.vector_norm(w, dim=axes, keepdim=True)
    size = math.prod(w.shape[lead:])
    kept = (1 - threshold * math.sqrt(size) / norms.clamp(min=torch.finfo(w.dtype).tiny)).clamp(min=0)
    return w * kept


KNOB = Knob(
    "group_lasso",
    "parameter",
    number("group_lasso"),
    "Shortens the incoming weights of each unit (row of a matrix, filter of a convolution) by `lr * group_lasso * "
    "sqrt(their number)` in L2 norm after each step; units whose weights are shorter get none.",
    "0 or larger",
    "Yuan and Lin 2006, eq. 2.1; Scardapane et al. 2017, sec. 3; Parikh and Boyd 2014, sec. 6.5.4",
    neutral=0.0,
    acts=OnWeights(lambda w, value, lr, lead: shrink_groups(w, lr * value, lead + 1), "after", matrices=True),
    log=True,
)

FROBENIUS = Knob(
    "frobenius",
    "parameter",
    number("frobenius"),
    "Group lasso with each whole matrix as one group: the penalty `frobenius * sqrt(size) * norm(W)`, not squared (its "
    "square is `l2`), which can empty whole layers.",
    "0 or larger",
    "Yuan and Lin 2006, eq. 2.1",
    neutral=0.0,
    acts=OnWeights(lambda w, value, lr, lead: shrink_groups(w, lr * value, lead), "after", matrices=True),
    log=True,
)
