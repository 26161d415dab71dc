"""Horizontal flip: each image is mirrored, left to right, with some probability.

Krizhevsky, Sutskever and Hinton (2012), "ImageNet classification with deep convolutional neural networks", section 4.1.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dampen.engine.knobs._base import Draws, Knob, OnBatch, number
from dampen.engine.knobs.batch._stacked import changed, for_each_member, images, of_members


def horizontal_flip(
    images: Shaped[Tensor, "B *C H W"], p: float | Tensor, uniforms: Float[Tensor, " B"]
) -> Shaped[Tensor, "B *C H W"]:
    """Mirror the images whose uniform is below `p`.

    Args:
        images: `[B, H, W]` or `[B, C, H, W]`.
        p: probability of mirroring, a number or a 0-dimensional tensor.
        uniforms: a number in [0, 1) for each image.

    Example:
        >>> horizontal_flip(torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]]), 0.5, torch.tensor([0.2, 0.7]))
        tensor([[[2., 1.]],
        <BLANKLINE>
                [[3., 4.]]])
    """
    mirrored = uniforms < torch.as_tensor(p, dtype=torch.float64, device=images.device).to(uniforms.dtype)
    return torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(-1), images)


class HorizontalFlip(nn.Module):
    """Random mirroring as a layer on images: random while training, the identity in evaluation.

    Args:
        p: probability of mirroring, in [0, 1].

    Raises:
        InputError: `p` is not in [0, 1].
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        self.p = probability(p)

    def forward(self, images: Shaped[Tensor, "B *C H W"]) -> Shaped[Tensor, "B *C H W"]:
        """Mirror images by fresh uniforms from torch's global generator."""
        if not self.training:
            return images
        return horizontal_flip(images, self.p, torch.rand(len(images), device=images.device))

    def extra_repr(self) -> str:
        """Show the probability when the module is printed."""
        return f"p={self.p}"


probability = number("horizontal_flip", 0.0, 1.0)
"""Read the knob: a probability of mirroring, in [0, 1]."""


def _draw(values: Sequence[Any], draws: Draws, inputs: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    which = images(inputs, "horizontal_flip", axes=2)
    return [of_members(values, targets.device), *(draws.uniform(len(targets[0])).unsqueeze(1) for _ in which)]


def _inputs(inputs: list[Tensor], p: Tensor, *uniforms: Tensor) -> list[Tensor]:
    which = images(inputs, "horizontal_flip", axes=3)
    return changed(inputs, which, lambda x, place: for_each_member(horizontal_flip, x, p, uniforms[place]))


KNOB = Knob(
    "horizontal_flip",
    "data",
    probability,
    "Mirrors each image, left to right, with this probability.",
    "a probability from 0 to 1",
    "Krizhevsky et al. 2012, sec. 4.1",
    neutral=0.0,
    acts=OnBatch(_draw, inputs=_inputs),
)
