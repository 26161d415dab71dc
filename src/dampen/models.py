"""Builders of the networks that the commands train: each is a value that makes a `nn.Module` when called."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

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


class Scaling(nn.Module):
    """A learned factor for each input: `x * (1 + 6 * weight)`, the identity before training.

    With it a network soon ignores columns that are not informative. Under Adam a parameter's step has the size of the
    learning rate, so that the 6 is a learning rate six times as large for these factors (Holzmüller, Grinsztajn and
    Steinwart 2024, "Better by default", section 3: the scaling layer). Weight decay spares them, as it spares the
    factors of normalisation layers.

    Args:
        inputs: how many there are.

    Example:
        >>> Scaling(2)(torch.tensor([[1.0, 2.0]])).tolist()
        [[1.0, 2.0]]
    """

    FACTOR = 6.0

    def __init__(self, inputs: int):
        super().__init__()
        self.inputs = inputs
        self.weight = nn.Parameter(torch.zeros(inputs))

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """Scale rows."""
        return x * (1 + Scaling.FACTOR * self.weight)

    def extra_repr(self) -> str:
        """Return the argument."""
        return str(self.inputs)


class Periodic(nn.Module):
    """Each number beside three combinations of 16 waves of it: `(x, W cos(2 pi f x + b) + c)`, all of them learned.

    Layers of a network bend slowly along one number; with waves it can follow what changes fast. Gorishniy, Rubachev
    and Babenko (2022), "On embeddings for numerical features", section 3.3, in the form of Holzmüller, Grinsztajn and
    Steinwart (2024), "Better by default", section 3.2: PBLD, with a cosine and its phase, and the number itself beside.

    **Shape.** `[..., D]` becomes `[..., D + 3 E]`: the inputs as they are, then three values for each embedded one.

    Args:
        inputs: how many there are.
        columns: which of them are embedded; None for all. Those with two values gain nothing.

    Example:
        >>> Periodic(5, columns=(0, 2))(torch.zeros(3, 5)).shape
        torch.Size([3, 11])
    """

    WAVES, VALUES = 16, 3
    SIGMA = 0.1  # deviation of the first frequencies; inputs have about unit spread

    def __init__(self, inputs: int, columns: tuple[int, ...] | None = None):
        super().__init__()
        self.inputs, self.columns = inputs, columns
        n, waves, values = inputs if columns is None else len(columns), Periodic.WAVES, Periodic.VALUES
        self.frequencies = nn.Parameter(Periodic.SIGMA * torch.randn(n, waves))
        self.phases = nn.Parameter(torch.pi * (2 * torch.rand(n, waves) - 1))
        self.weight = nn.Parameter((2 * torch.rand(n, waves, values) - 1) / waves**0.5)
        self.bias = nn.Parameter((2 * torch.rand(n, values) - 1) / waves**0.5)

    def forward(self, x: Float[Tensor, "... D"]) -> Float[Tensor, "... W"]:
        """Embed rows."""
        numbers = x if self.columns is None else x[..., list(self.columns)]
        waves = torch.cos(2 * torch.pi * numbers.unsqueeze(-1) * self.frequencies + self.phases)
        values = torch.einsum("...nw,nwv->...nv", waves, self.weight) + self.bias
        return torch.cat([x, values.flatten(-2)], -1)

    @property
    def width(self) -> int:
        """How many values an embedded row has."""
        return self.inputs + Periodic.VALUES * (self.inputs if self.columns is None else len(self.columns))

    def extra_repr(self) -> str:
        """Return the arguments."""
        return str(self.inputs) if self.columns is None else f"{self.inputs}, columns={self.columns}"


ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "selu": nn.SELU,
    "tanh": nn.Tanh,
}


@dataclass(frozen=True)
class MLP:
    """A multilayer perceptron; see `mlp`."""

    hidden: tuple[int, ...]
    dropout: tuple[float, ...]
    activation: str = "relu"
    scaling: bool = False
    periodic: bool | tuple[int, ...] = False

    def __call__(self, inputs: int, outputs: int) -> nn.Module:
        """Make the network for rows of `inputs` numbers (any shape: they are flattened) and `outputs` outputs."""
        layers: list[nn.Module] = [nn.Flatten()]
        if self.scaling:
            layers.append(Scaling(inputs))
        width = inputs
        beyond = [] if isinstance(self.periodic, bool) else [place for place in self.periodic if place >= inputs]
        if beyond:
            raise InputError(f"periodic names input {beyond[0]}, and a row has {inputs}, counted from 0")
        if self.periodic is not False and self.periodic != ():
            embedding = Periodic(inputs, None if self.periodic is True else self.periodic)
            width = embedding.width
            layers.append(embedding)
        for (before, after), p in zip(pairwise((width, *self.hidden)), self.dropout, strict=True):
            layers += [nn.Linear(before, after), ACTIVATIONS[self.activation](), nn.Dropout(p)]
        return nn.Sequential(*layers, nn.Linear((width, *self.hidden)[-1], outputs))


def linear() -> Linear:
    """Return a builder of a linear model: weights drawn from N(0, 1), bias 0.

    Example:
        >>> linear()(inputs=200, outputs=1)[1]
        Linear(in_features=200, out_features=1, bias=True)
    """
    return Linear()


def mlp(*hidden: int, dropout: float | Sequence[float] = 0.0, activation: str = "relu", scaling: bool = False) -> MLP:
    """Return a builder of a multilayer perceptron: linear, activation and dropout for each hidden layer, then linear.

    Args:
        hidden: widths of the hidden layers, from the input to the output.
        dropout: one rate for every hidden layer, or one for each.
        activation: `relu`, `silu`, `gelu`, `mish`, `selu` or `tanh`.
        scaling: whether the inputs first pass a `Scaling` layer.

    Raises:
        InputError: a width below 1, not as many rates as hidden layers, or an unknown activation.

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
    if activation not in ACTIVATIONS:
        raise InputError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return MLP(hidden, rates, activation, scaling)


def tabular(*hidden: int, dropout: float | Sequence[float] = 0.0, periodic: bool | Sequence[int] = False) -> MLP:
    """Return a builder of the multilayer perceptron for tables: a scaling layer, and SiLU where `mlp` has ReLU.

    Both are of Holzmüller, Grinsztajn and Steinwart (2024), "Better by default", whose activations (SELU, Mish) are
    smooth, too, and so are the periodic embeddings; `docs/estimators.md` has what each is worth here.

    Args:
        hidden: as for `mlp`.
        dropout: as for `mlp`.
        periodic: whether a `Periodic` layer embeds the inputs, or the places of those that it embeds.

    Raises:
        InputError: as for `mlp`, or places that are no whole numbers from 0 on.

    Example:
        >>> tabular(64)(inputs=13, outputs=3)[1]
        Scaling(13)
    """
    if not isinstance(periodic, bool):
        periodic = tuple(periodic)
        if not all(isinstance(place, int) and place >= 0 for place in periodic) or len({*periodic}) < len(periodic):
            raise InputError(
                "periodic must be True, False or the places of different inputs, whole numbers from 0 on, "
                f"got {periodic!r}"
            )
    return replace(mlp(*hidden, dropout=dropout, activation="silu", scaling=True), periodic=periodic)
