"""Networks whose probabilities are as sharp as they are right: what a study by `calibrated-nll` hands out.

That metric leaves open how sure a network is of its classes, which label smoothing and long trainings change. One
number mends it: logits are divided by a temperature (Guo et al. 2017), fitted on rows that the confirmation's networks
have not seen.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dampen.data import Rows, repeated
from dampen.engine import copied
from dampen.uncertainty import fit_temperature


def temperature_of(outputs: Sequence[Float[Tensor, "N C"]], rows: Sequence[Rows], averaged: bool) -> float:
    """Return a temperature for networks of one setting.

    Args:
        outputs: of each network, for rows that it has not seen.
        rows: these, which count by their weights.
        averaged: whether the mean of several networks predicts. It is less sure than each of them, so that single
            networks which are too sure leave it as it is; where they are not sure enough, neither is their mean.
    """
    targets = torch.cat([part.targets for part in rows])
    weighed = [part.weights_among_all for part in rows if part.weights_among_all is not None]
    repeats = repeated(rows)
    weights = torch.cat(weighed) if weighed else None
    found = fit_temperature(torch.cat(list(outputs)), targets, repeats=repeats, weights=weights)
    return min(1.0, found) if averaged else found


def of_networks(networks: Sequence[tuple[nn.Module, Rows]], averaged: bool) -> float:
    """Return the temperature of networks with rows that they have not seen; see `temperature_of`."""
    with torch.no_grad():
        outputs = [network(_inputs(network, rows.features)) for network, rows in networks]
    return temperature_of(outputs, [rows for _, rows in networks], averaged)


def tempered(network: nn.Module, temperature: float) -> nn.Module:
    """Return a copy of a network whose outputs are divided by a number: in its last layer, if that is linear.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
        >>> rows = torch.randn(4, 3)
        >>> torch.allclose(tempered(network, 0.5)(rows), network(rows) / 0.5)
        True
    """
    network = copied(network)
    last = network[-1] if isinstance(network, nn.Sequential) and len(network) else network
    plain = type(network) in (nn.Sequential, nn.Linear) and type(last) is nn.Linear  # no weights of other weights
    if not plain or last._forward_pre_hooks:
        return Tempered(network, temperature)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.div_(temperature)
    return network


class Tempered(nn.Module):
    """A network whose outputs are divided by a temperature."""

    def __init__(self, network: nn.Module, temperature: float):
        super().__init__()
        self.network, self.temperature = network, temperature
        self.train(network.training)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the network's outputs, divided."""
        return self.network(*inputs) / self.temperature


def _inputs(network: nn.Module, features: Tensor) -> Tensor:
    """Return rows in the precision of a network; whole numbers, which it may look up, as they are."""
    dtype = next((p.dtype for p in network.parameters()), torch.float32)
    return features.to(dtype) if features.is_floating_point() else features
