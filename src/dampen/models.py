"""Builders of the networks that the commands train: each is a value that makes a `nn.Module` when called."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from dampen.errors import InputError


@dataclass(frozen=True)
class Linear:
    """Linear regression or classification; see `linear`."""

    def __call__(self, inputs: int, outputs: int) -> nn.Module:
        """Make the network for rows of `inputs` numbers and `outputs` outputs."""
        layer = nn.Linear(inputs, outputs)
        nn.init.normal_(layer.weight)
        nn.init.zeros_(layer.bias)
        return nn.Sequential(nn.Flatten(), layer)


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron; see `mlp`."""

    hidden: tuple[int, ...]
    dropout: tuple[float, ...]

    def __call__(self, inputs: int, outputs: int) -> nn.Module:
        """Make the network for rows of `inputs` numbers (any shape: they are flattened) and `outputs` outputs."""
        layers: list[nn.Module] = [nn.Flatten()]
        for (before, after), p in zip(pairwise((inputs, *self.hidden)), self.dropout, strict=True):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(p)]
        return nn.Sequential(*layers, nn.Linear((inputs, *self.hidden)[-1], outputs))


def linear() -> Linear:
    """Return a builder of a linear model: weights drawn from N(0, 1), bias 0.

    Example:
        >>> linear()(inputs=200, outputs=1)[1]
        Linear(in_features=200, out_features=1, bias=True)
    """
    return Linear()


def mlp(*hidden: int, dropout: float | Sequence[float] = 0.0) -> MLP:
    """Return a builder of a multilayer perceptron: linear, ReLU and dropout for each hidden layer, then linear.

    Args:
        hidden: widths of the hidden layers, from the input to the output.
        dropout: one rate for every hidden layer, or one for each.

    Raises:
        InputError: a width below 1, or not as many rates as hidden layers.

    Example:
        >>> mlp(256, 128, dropout=(0.3, 0.5))(inputs=784, outputs=10)[3]
        Dropout(p=0.3, inplace=False)
    """
    for width in hidden:
        if not isinstance(width, int) or width < 1:
            raise InputError(f"a hidden layer needs a whole number of units, 1 or more, got {width!r}")
    rates = (dropout,) * len(hidden) if isinstance(dropout, int | float) else tuple(dropout)
    if len(rates) != len(hidden):
        raise InputError(
            f"{len(rates)} dropout {'rate' if len(rates) == 1 else 'rates'} for {len(hidden)} hidden "
            f"{'layer' if len(hidden) == 1 else 'layers'}: give one rate for each hidden layer"
        )
    for p in rates:
        if not 0 <= p <= 1:
            raise InputError(f"dropout must be a probability of dropping from 0 to 1, got {p!r}")
    return MLP(hidden, rates)
