"""Decoupled decay under any optimizer: `w *= 1 - lr * decoupled_decay` before its step.

Loshchilov and Hutter (2019), "Decoupled weight decay regularization", algorithms 1 (SGDW) and 2 (AdamW).
"""

from dampen.engine.knobs._base import Knob, OnWeights, number
from dampen.engine.knobs.weights.weight_decay import decay

KNOB = Knob(
    "decoupled_decay",
    "parameter",
    number("decoupled_decay"),
    "Multiplies each decaying weight by `1 - lr * decoupled_decay` before each step, whatever the optimizer.",
    "0 or larger",
    "Loshchilov and Hutter 2019, alg. 1 and 2",
    neutral=0.0,
    acts=OnWeights(lambda w, value, lr, lead: decay(w, lr, value), "before"),
    log=True,
)
