"""Corrected decay (AdamC): where a normalisation follows, decoupled decay that falls with the schedule once more.

Defazio (2025), "Why gradients rapidly increase near the end of training", arXiv 2506.02285: the decay of
normalised layers is `weight_decay * lr_t / lr_max`, so that the ratio of their gradients' and weights' norms, which
tends to `sqrt(2 * decay / lr)`, does not grow as the learning rate falls. Other layers keep the plain decay.
"""

from itertools import pairwise

from torch import Tensor, nn

from dampen.engine.knobs._base import Knob, OnWeights, number
from dampen.engine.knobs.weights.weight_decay import decay, is_normalisation

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
_BETWEEN = (nn.Identity, nn.modules.dropout._DropoutNd)


def normalised(network: nn.Module) -> set[str]:
    """Return the names of the weights whose layer a normalisation follows.

    It follows where the next layer that the network holds, dropout aside, is one of torch's normalisations: modules are
    held in the order in which they were assigned, which is nearly always that of the forward pass.

    Example:
        >>> sorted(normalised(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))))
        ['0.weight']
    """
    leaves = [(name, m) for name, m in network.named_modules() if not any(m.children()) and not isinstance(m, _BETWEEN)]
    return {
        f"{name}.weight".removeprefix(".")
        for (name, module), (_, following) in pairwise(leaves)
        if isinstance(module, _LAYERS) and is_normalisation(following)
    }


def rate(lr: Tensor, factor: float, normalised: bool) -> Tensor:
    """Return `lr_t` for a layer, and `lr_t * lr_t / lr_max` for a normalised one.

    Args:
        lr: peak learning rate.
        factor: the schedule's share of it now.
        normalised: whether a normalisation follows.

    Example:
        >>> import torch
        >>> rate(torch.tensor(0.1), 0.5, False), rate(torch.tensor(0.1), 0.5, True)
        (tensor(0.0500), tensor(0.0250))
    """
    return lr * factor**2 if normalised else lr * factor


KNOB = Knob(
    "corrected_decay",
    "parameter",
    number("corrected_decay"),
    "Decoupled decay, `w *= 1 - lr * corrected_decay`, whatever the optimizer, which in layers with a normalisation "
    "right after them is multiplied by the schedule's share of the peak learning rate once more (AdamC).",
    "0 or larger",
    "Defazio 2025, AdamC, arXiv 2506.02285",
    neutral=0.0,
    acts=OnWeights(lambda w, value, lr, lead: decay(w, lr, value), "before", rate=rate),
    log=True,
)
