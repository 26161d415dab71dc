"""Input noise: normal noise is added to every number of the input.

Bishop (1995), "Training with noise is equivalent to Tikhonov regularization", Neural Computation 7: to second order in
the noise, the expected squared error gains `sigma^2` times the squared gradient of the output with respect to the
input; for a linear model that is exactly `sigma^2 * ||w||^2`, ridge regression's penalty.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dampen.engine.knobs._base import Draws, Knob, OnBatch, number
from dampen.engine.knobs.batch._stacked import changed, for_each_member, numbers, of_members


def input_noise(x: Tensor, sigma: float | Tensor, normals: Tensor) -> Tensor:
    """Return `x + sigma * normals`.

    Args:
        x: inputs, any shape.
        sigma: standard deviation of the noise, in the inputs' own units: a number or a tensor that broadcasts.
        normals: numbers from N(0, 1), of `x`'s shape.

    Example:
        >>> input_noise(torch.tensor([1.0, 2.0]), 0.5, torch.tensor([1.0, -2.0]))
        tensor([1.5000, 1.0000])
    """
    return x + torch.as_tensor(sigma, dtype=torch.float64, device=x.device).to(x.dtype) * normals.to(x.dtype)


class InputNoise(nn.Module):
    """Input noise as a layer: random while training, the identity in evaluation.

    Args:
        sigma: standard deviation, 0 or larger.

    Raises:
        InputError: `sigma` is negative or not finite.
    """

    def __init__(self, sigma: float = 0.1):
        super().__init__()
        self.sigma = strength(sigma)

    def forward(self, x: Tensor) -> Tensor:
        """Add fresh noise from torch's global generator to `x` (any shape)."""
        return input_noise(x, self.sigma, torch.randn_like(x)) if self.training else x

    def extra_repr(self) -> str:
        """Show the deviation when the module is printed."""
        return f"sigma={self.sigma}"


strength = number("input_noise")
"""Read the knob: a standard deviation in the inputs' own units, a finite number, 0 or larger."""


def _draw(values: Sequence[Any], draws: Draws, inputs: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    which = numbers(inputs, "input_noise")
    return [of_members(values, targets.device), *(draws.normal(*inputs[i].shape[1:]).unsqueeze(1) for i in which)]


def _inputs(inputs: list[Tensor], sigma: Tensor, *normals: Tensor) -> list[Tensor]:
    which = numbers(inputs, "input_noise")
    return changed(inputs, which, lambda x, place: for_each_member(input_noise, x, sigma, normals[place]))


KNOB = Knob(
    "input_noise",
    "data",
    strength,
    "Adds normal noise of this standard deviation to every number of the input.",
    "0 or larger, in the inputs' own units",
    "Bishop 1995",
    neutral=0.0,
    acts=OnBatch(_draw, inputs=_inputs),
    log=True,
)
