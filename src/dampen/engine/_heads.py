"""Networks with several outputs for each target: what a loss of mean and variance, or of quantiles, takes."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from dampen.engine._losses import heads_of
from dampen.engine._model import Builder, Model


@dataclass(frozen=True, repr=False)
class WithHeads:
    """A builder whose networks have `n` outputs for each one that they would have.

    Args:
        model: what makes the network; one that takes no `outputs` has to return them by itself.
        n: how many.
    """

    model: Model
    n: int

    def __call__(self, inputs: int, outputs: int, input_shape: tuple[int, ...]) -> nn.Module:
        """Make the network."""
        builder = Builder(self.model)
        return builder.make(input_shape or (inputs,), self.n * outputs)

    def __repr__(self) -> str:
        """Return the name of the model: its loss has the number."""
        model: Any = self.model
        return getattr(model, "__qualname__", None) or repr(model)


def with_heads(model: Model, loss: Any) -> Model:
    """Return a builder of networks with as many outputs as a loss takes; the model itself where that is one.

    Example:
        >>> from dampen import mlp
        >>> with_heads(mlp(4), "gaussian_nll")(3, 1, (3,))[-1]
        Linear(in_features=4, out_features=2, bias=True)
    """
    n = heads_of(loss)
    return model if n == 1 or isinstance(model, WithHeads) else WithHeads(model, n)
