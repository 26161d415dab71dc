"""Max-norm: the incoming weights of each unit are kept within a ball.

Srebro and Shraibman (2005), "Rank, trace-norm and max-norm"; Srivastava et al. (2014), "Dropout", section 5.1: the
weights are projected onto `||w||_2 <= c` after each step.
"""

import math

import torch
from torch import Tensor

from dampen.engine.knobs._base import Knob, OnWeights, number
from dampen.errors import InputError


def within(w: Tensor, max_norm: float | Tensor, lead: int = 0) -> Tensor:
    """Shorten the incoming weights of each unit to an L2 norm of at most `max_norm`; shorter ones stay as they are.

    Args:
        w: weights; after `lead` axes of members comes that of units, all others are a unit's incoming weights.
        max_norm: what broadcasts against `w`, larger than 0; infinite for no bound.
        lead: axes of members.

    Example:
        >>> within(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])
    """
    norms = torch.linalg.vector_norm(w, dim=tuple(range(lead + 1, w.ndim)), keepdim=True)
    # A rounding error above the bound must not remain: aim one unit in the last place lower.
    aim = max_norm * (1 - torch.finfo(w.dtype).eps * 4)
    return w * torch.where(norms > max_norm, aim / norms, 1.0)


_finite = number("max_norm", above=True)


def bound(value: object) -> float:
    """Read the knob: a number above 0, or infinity for no bound, as a word too."""
    if (isinstance(value, str) and value == str(math.inf)) or value == math.inf:
        return math.inf
    try:
        return _finite(value)
    except InputError:
        raise InputError(f"max_norm must be a number above 0 (inf for no bound), got {value!r}") from None


KNOB = Knob(
    "max_norm",
    "parameter",
    bound,
    "Shortens the incoming weights of each unit to an L2 norm of at most `max_norm` after each step.",
    "above 0; inf for no bound",
    "Srivastava et al. 2014, sec. 5.1",
    neutral=math.inf,
    acts=OnWeights(lambda w, value, lr, lead: within(w, value, lead), "after", matrices=True),
    log=True,
)
