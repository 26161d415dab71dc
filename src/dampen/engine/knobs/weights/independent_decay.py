"""Independent decay: decoupled decay that the learning rate's peak does not multiply, only its schedule.

Loshchilov and Hutter (2019), "Decoupled weight decay regularization", algorithm 2: `w <- w - eta_t * (... + lambda w)`
with the schedule's share eta_t; Wortsman et al. (2023), "Small-scale proxies for large-scale transformer training
instabilities" (arXiv 2309.14322), find that the best learning rate then depends less on the network's size. torch's
AdamW multiplies by the learning rate as well.
"""

import torch

from dampen.engine.knobs._base import Knob, OnWeights, number
from dampen.engine.knobs.weights.weight_decay import decay

KNOB = Knob(
    "independent_decay",
    "parameter",
    number("independent_decay", high=1.0),
    "Multiplies each decaying weight by `1 - share * independent_decay` before each step, with the schedule's share of "
    "the peak learning rate but not the rate itself, whatever the optimizer.",
    "0 to 1; AdamW's `lr * weight_decay` in one number, such as 1e-4",
    "Loshchilov and Hutter 2019, alg. 2; Wortsman et al. 2023",
    neutral=0.0,
    acts=OnWeights(
        lambda w, value, lr, lead: decay(w, lr, value),
        "before",
        rate=lambda lr, factor, normalised: torch.full_like(lr, factor),
    ),
    log=True,
)
