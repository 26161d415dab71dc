"""L2-SP: decay towards the weights that training began with, for fine-tuning, instead of towards 0.

Li, Grandvalet and Davoine (2018), "Explicit inductive bias for transfer learning with convolutional networks":
the penalty L2-SP is `l2_sp / 2 * ||w - w0||^2`.
"""

from torch import Tensor

from dampen.engine.knobs._base import Knob, OnGradient, number


def l2_sp_gradient(w: Tensor, start: Tensor, l2_sp: float | Tensor) -> Tensor:
    """Return `l2_sp * (w - start)`, the gradient of `l2_sp / 2 * ||w - start||^2`."""
    return l2_sp * (w - start)


def _gradient(w: Tensor, value: Tensor, start: Tensor | None) -> Tensor:
    assert start is not None
    return l2_sp_gradient(w, start, value)


KNOB = Knob(
    "l2_sp",
    "gradient",
    number("l2_sp"),
    "Adds `l2_sp * (w - w0)` to the gradient of each decaying weight, where `w0` is what the model's function gave: "
    "pretrained weights if it loads them.",
    "0 or larger",
    "Li, Grandvalet and Davoine 2018, penalty L2-SP",
    neutral=0.0,
    acts=OnGradient(_gradient, needs_start=True),
    log=True,
)
