"""Random shift: each image is moved by up to so many pixels, its edges repeated to fill the gap.

Krizhevsky, Sutskever and Hinton (2012), "ImageNet classification with deep convolutional neural networks", section 4.1
(translations); Yarats, Kostrikov and Fergus (2021), "Image augmentation is all you need" (edges repeated:
unlike zeros, these mean the same before and after the pixels are standardised).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dampen._checks import is_number
from dampen.engine.knobs._base import Draws, Knob, OnBatch
from dampen.engine.knobs.batch._stacked import changed, for_each_member, images, of_members
from dampen.errors import InputError


def random_shift(
    images: Shaped[Tensor, "B *C H W"], pixels: int | Tensor, uniforms: Float[Tensor, "B 2"]
) -> Shaped[Tensor, "B *C H W"]:
    """Move each image down and to the right by whole numbers of pixels, each of -pixels to +pixels equally likely.

    Args:
        images: `[B, H, W]` or `[B, C, H, W]`.
        pixels: the largest shift, a whole number or a 0-dimensional tensor.
        uniforms: for each image two numbers in [0, 1): of the shift down and of that to the right.

    Example:
        >>> random_shift(torch.tensor([[[1.0, 2.0, 3.0]]]), 1, torch.tensor([[0.5, 0.9]]))
        tensor([[[1., 1., 2.]]])
    """
    height, width = images.shape[-2:]
    steps = (torch.floor(uniforms.double() * (2 * pixels + 1)) - pixels).long()
    rows = (torch.arange(height, device=images.device) - steps[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - steps[:, 1:]).clamp(0, width - 1)
    source = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1)  # [B, H * W]
    flat = images.reshape(len(images), -1, height * width)
    return flat.gather(2, source.unsqueeze(1).expand(flat.shape)).reshape(images.shape)


class RandomShift(nn.Module):
    """Random shifts as a layer on images: random while training, the identity in evaluation.

    Args:
        pixels: the largest shift, 0 or larger.

    Raises:
        InputError: `pixels` is no whole number, or negative.
    """

    def __init__(self, pixels: int = 4):
        super().__init__()
        self.pixels = distance(pixels)

    def forward(self, images: Shaped[Tensor, "B *C H W"]) -> Shaped[Tensor, "B *C H W"]:
        """Shift images by fresh uniforms from torch's global generator."""
        if not self.training:
            return images
        return random_shift(images, self.pixels, torch.rand(len(images), 2, device=images.device))

    def extra_repr(self) -> str:
        """Show the largest shift when the module is printed."""
        return f"pixels={self.pixels}"


def distance(value: object) -> int:
    """Read the knob: a whole number of pixels, 0 or larger."""
    if not is_number(value) or value < 0 or not float(value).is_integer():
        given = f"{value:g} (give a search a list, not a range)" if isinstance(value, float) else repr(value)
        raise InputError(f"random_shift must be a whole number of pixels, 0 or larger, got {given}")
    return int(value)


def _draw(values: Sequence[Any], draws: Draws, inputs: Sequence[Tensor], targets: Tensor) -> list[Tensor]:
    which = images(inputs, "random_shift", axes=2)
    return [of_members(values, targets.device), *(draws.uniform(len(targets[0]), 2).unsqueeze(1) for _ in which)]


def _inputs(inputs: list[Tensor], pixels: Tensor, *uniforms: Tensor) -> list[Tensor]:
    which = images(inputs, "random_shift", axes=3)
    return changed(inputs, which, lambda x, place: for_each_member(random_shift, x, pixels, uniforms[place]))


KNOB = Knob(
    "random_shift",
    "data",
    distance,
    "Moves each image by up to so many pixels down or up and right or left, its edges repeated.",
    "a whole number of pixels, 0 or larger",
    "Krizhevsky et al. 2012, sec. 4.1; Yarats et al. 2021",
    neutral=0,
    acts=OnBatch(_draw, inputs=_inputs),
)
